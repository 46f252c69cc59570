"""Peak memory of `understudy.fit` beside a loop written by hand, each in a fresh process, in MiB.

    python benchmarks/memory.py

The whole process counts: python, torch, everything that is imported, the data, both networks. Goal: fit within 5 % of
the loop by hand. About a minute and a half.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from contest import arguments, case, compare, finish, in_turns, warn_if_busy

options = arguments(__doc__.partition("\n")[0])
load_before = warn_if_busy()

mlp = {"task": "mlp", "samples": 60_000, "batch": 128, "steps": 200}
# As many steps as it takes for fit to try out memory formats, copies of the networks and all; the other loop takes as
# many, since memory that is freed in pieces lets any loop grow. It is in the format that fit comes to.
resnet = {"task": "resnet", "samples": 4_096, "batch": 128, "steps": 125}
tasks = {"MLP 1200-1200 to 800-800, 28×28": (mlp, 2), "ResNet-50 to MobileNetV2, 32×32": (resnet, 1)}
if options.quick:
    tasks = {"MLP 1200-1200 to 800-800, 28×28": ({**mlp, "steps": 3}, 1)}


def peak(contender: str, task: dict[str, Any], seen: dict[str, list[Any]]) -> float:
    """MiB at the most; what the process held before the training, and how fit executed it, is added to ``seen``."""
    program = str(Path(__file__).with_name("memory_process.py"))
    command = [sys.executable, program, json.dumps({**task, "contender": contender})]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    seen[contender].append(found["before_bytes"] / 2**20)
    seen["plans"] += found["plans"]
    return found["peak_bytes"] / 2**20


tables = []
for name, (task, rounds) in tasks.items():
    seen: dict[str, list[Any]] = {"hand-written": [], "understudy": [], "plans": []}
    figures = in_turns({who: partial(peak, who, task, seen) for who in ("hand-written", "understudy")}, rounds)
    steps, batch, plans = task["steps"], task["batch"], seen.pop("plans")
    table = case(name, "MiB at the most", figures, before_training=seen, plans=plans, steps=steps, batch=batch)
    compare(table, "understudy", "hand-written", at_most=1.05)
    tables.append(table)

finish("memory", options, tables, load_before=load_before)
