"""Losses over a large vocabulary in chunks of tokens, beside the plain formula of all logits: time and memory.

    python benchmarks/head_loss.py

From the last hidden states of both networks to the gradients of the student's, head included; 32,000 words, 2,048
tokens, float32, each contender in a fresh process. Memory is what the process held at the most beyond what it held with
the hidden states and the heads. About two minutes.
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

CONTENDERS = ("plain", "checkpointed", "closed form")
GOALS = {"kl": {"MiB": 0.10, "seconds": 0.9}, "jensen_shannon": {"MiB": 0.05, "seconds": 0.6}}

options = arguments(__doc__.partition("\n")[0])
load_before = warn_if_busy()
sizes = {"words": 32_000, "tokens": 2_048, "width": 128, "chunk": 32}
rounds = 3
if options.quick:
    sizes, rounds = {"words": 2_000, "tokens": 128, "width": 16, "chunk": 16}, 1


def run(divergence: str, contender: str, seen: list[dict[str, Any]]) -> float:
    """Seconds; all that the process said is added to ``seen``."""
    program = str(Path(__file__).with_name("head_loss_process.py"))
    task = json.dumps({**sizes, "divergence": divergence, "contender": contender})
    done = subprocess.run([sys.executable, program, task], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    told = [found["loss"], *found["squares"]]
    if seen and not all(map(partial(math.isclose, rel_tol=1e-4), told, [seen[0]["loss"], *seen[0]["squares"]])):
        raise SystemExit(f"{contender} computes something else: {told}")
    seen.append({**found, "contender": contender})
    return found["seconds"]


tables = []
for divergence, goals in GOALS.items():
    seen: list[dict[str, Any]] = []
    seconds = in_turns({name: partial(run, divergence, name, seen) for name in CONTENDERS}, rounds)
    memory = {name: [found["bytes"] / 2**20 for found in seen if found["contender"] == name] for name in CONTENDERS}
    for unit, figures in (("seconds", seconds), ("MiB", memory)):
        table = case(f"{divergence}: {unit}", unit, figures, **sizes)
        compare(table, "closed form", "plain", at_most=goals[unit])
        compare(table, "checkpointed", "plain")
        tables.append(table)

finish("head_loss", options, tables, load_before=load_before)
