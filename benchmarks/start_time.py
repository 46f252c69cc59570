"""Seconds until `understudy --help` has answered and until `import understudy` is done, in fresh processes.

    python benchmarks/start_time.py

Beside `python -c pass`, which nobody can be faster than. Goal: the help under 0.3 s. About 10 seconds.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from contest import add_goal, arguments, case, compare, finish, in_turns, warn_if_busy

options = arguments(__doc__.partition("\n")[0])
rounds = 15 if not options.quick else 2
load_before = warn_if_busy()


def seconds(command: Sequence[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


script = Path(sys.executable).with_name("understudy")
if not script.is_file():
    raise SystemExit(f"{script} is missing; install the package into the environment of this python first")
commands = {
    "understudy --help": [str(script), "--help"],
    "import understudy": [sys.executable, "-c", "import understudy"],
    "python -c pass": [sys.executable, "-c", "pass"],
}
heavy = ("torch", "numpy", "pydantic", "rich")
probe = f"import sys, understudy; print(*(name for name in {heavy!r} if name in sys.modules))"
imported = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout.split()

for command in commands.values():  # compiles to bytecode, and fills the disk cache
    seconds(command)
figures = in_turns({name: partial(seconds, command) for name, command in commands.items()}, rounds)
table = case("start", "seconds", figures, imported_by_understudy=imported)
compare(table, "understudy --help", "python -c pass")
compare(table, "import understudy", "python -c pass")
add_goal(table, "understudy --help", table["medians"]["understudy --help"], at_most=0.3)

finish("start_time", options, [table], load_before=load_before)
