"""`understudy serve` under load, with batches and without, beside a bare FastAPI + uvicorn server of the same model.

    python benchmarks/serving.py

Each server has a process and one thread for the model, the clients have another process; all servers stay up and take
turns. 1, 4 and 16 clients ask for a PNG of 32×32 pixels each, on a connection that stays open, and ask again as soon as
they are answered. Goals at 16 clients: as many answers per second as the bare server, and no longer a wait at the 99 %
mark. About 5 minutes.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contest import arguments, case, compare, finish, in_turns, warn_if_busy
from PIL import Image

from understudy.sources import BuiltinModel, build_model, save_artifact

BATCHING, SINGLE, BARE = "understudy", "understudy, no batches", "FastAPI"
PROGRAM = str(Path(__file__).with_name("serving_process.py"))


def saved(folder: Path, widths: list[int]) -> Path:
    """A convolutional network with random weights: what it answers does not matter, only that all answer the same."""
    inputs = torch.rand(2, 3, 32, 32)
    spec = BuiltinModel(name="cnn", arguments={"widths": widths})
    torch.manual_seed(0)
    model = build_model(spec, classes=10, inputs=inputs)
    return save_artifact(folder, model, spec=spec, classes=tuple(map(str, range(10))), inputs=inputs)


def ours(artifact: Path, max_batch: int) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-m", "understudy", "serve", str(artifact), "--port", "0", "--threads", "1"]
    process = subprocess.Popen([*command, "--max-batch", str(max_batch)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.readline()
    found = re.search(r"http://127\.0\.0\.1:(\d+)", said)
    assert found, said + process.stderr.read()
    return process, int(found[1])


def bare(artifact: Path) -> tuple[subprocess.Popen[str], int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, PROGRAM, json.dumps({"artifact": str(artifact), "port": port})], text=True
    )
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return process, port
    raise RuntimeError("the FastAPI server ended before it served")


def measured(port: int, task: dict[str, Any], seen: list[dict[str, Any]]) -> float:
    """Answers per second; all that the clients saw is added to ``seen``."""
    command = [sys.executable, PROGRAM, json.dumps({"port": port, **task})]
    seen.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    return seen[-1]["per_second"]


def tables_of(clients: int, seen: dict[str, list[dict[str, Any]]], seconds: float) -> list[dict[str, Any]]:
    """Answers per second, and how long they took."""
    goals = clients == 16
    found = []
    for unit, key in (("answers per second", "per_second"), ("ms at 50 %", "p50_ms"), ("ms at 99 %", "p99_ms")):
        figures = {who: [each[key] for each in turns] for who, turns in seen.items()}
        answers = {who: turns[0]["answer"] for who, turns in seen.items()}
        name = f"{clients} clients, {unit}"
        table = case(name, unit, figures, clients=clients, seconds=seconds, answers=answers)
        compare(table, BATCHING, BARE, **_goal(key) if goals else {})
        compare(table, SINGLE, BARE)
        compare(table, BATCHING, SINGLE)
        found.append(table)
    return found


def _goal(key: str) -> dict[str, float]:
    return {"per_second": {"at_least": 1.0}, "p99_ms": {"at_most": 1.0}}.get(key, {})


def main() -> None:
    options = arguments(__doc__.partition("\n")[0])
    load_before = warn_if_busy()
    rounds, seconds, widths = (1, 0.3, [8]) if options.quick else (5, 6.0, [32, 64, 128])
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(image)
        artifact = saved(Path(folder) / "model", widths)
        servers: dict[str, tuple[subprocess.Popen[str], int]] = {}
        try:
            servers[BATCHING] = ours(artifact, 16)
            servers[SINGLE] = ours(artifact, 1)
            servers[BARE] = bare(artifact)
            for clients in (1, 4, 16):
                seen: dict[str, list[dict[str, Any]]] = defaultdict(list)
                task = {"image": str(image), "clients": clients, "seconds": seconds}
                in_turns({who: partial(measured, port, task, seen[who]) for who, (_, port) in servers.items()}, rounds)
                tables += tables_of(clients, seen, seconds)
        finally:
            for process, _ in servers.values():
                process.terminate()
                process.wait(15)
                if process.stderr is not None:
                    process.stderr.close()
    finish("serving", options, tables, load_before=load_before)


if __name__ == "__main__":
    main()
