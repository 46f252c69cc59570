"""A step of distilling a language model with `head_chunk`, beside one with all logits: time and memory.

    python benchmarks/head_chunk.py

Forward of both networks, cross-entropy and soft targets, backward; Llamas of two and four layers with 32,000 words,
eight windows of 256 tokens, float32, each contender in a fresh process. Memory is what the process held at the most
beyond what it held with both networks. About two minutes.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from contest import arguments, case, compare, finish, in_turns, warn_if_busy

CONTENDERS = {"all logits": None, "head_chunk": "auto"}

options = arguments(__doc__.partition("\n")[0])
load_before = warn_if_busy()
sizes = {"words": 32_000, "samples": 8, "tokens": 256, "width": 128, "layers": 2}
rounds = 3
if options.quick:
    sizes, rounds = {"words": 2_000, "samples": 2, "tokens": 64, "width": 16, "layers": 1}, 1

seen: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}


def run(contender: str) -> float:
    """Seconds; all that the process said is kept."""
    program = str(Path(__file__).with_name("head_chunk_process.py"))
    task = json.dumps({**sizes, "head_chunk": CONTENDERS[contender]})
    done = subprocess.run([sys.executable, program, task], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    for other in (one for told in seen.values() for one in told):
        if not all(map(partial(math.isclose, rel_tol=1e-4), found["told"], other["told"])):
            raise SystemExit(f"{contender} computes something else: {found['told']} and {other['told']}")
    seen[contender].append(found)
    return found["seconds"]


seconds = in_turns({name: partial(run, name) for name in CONTENDERS}, rounds)
memory = {name: [found["bytes"] / 2**20 for found in told] for name, told in seen.items()}
tables = []
for unit, figures in (("seconds", seconds), ("MiB", memory)):
    table = case(f"a step: {unit}", unit, figures, **sizes)
    compare(table, "head_chunk", "all logits")
    tables.append(table)

finish("head_chunk", options, tables, load_before=load_before)
