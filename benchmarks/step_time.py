"""Milliseconds per step of distilling a small network on MNIST-sized images, with a live teacher.

    python benchmarks/step_time.py --data ylecun/mnist

Contenders: `understudy.fit` with its progress display on a pseudo-terminal; the loop a careful engineer writes by hand
(whole batches by index, fused optimizer), the same with torch's default optimizer, the same with a `DataLoader`; and
torchdistill, the way its examples use it. Goal: fit takes at most 1.05 times the careful loop at 800 hidden units, and
1.15 times at 30. About 4 minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import torch
from contest import arguments, case, compare, finish, in_turns, warn_if_busy
from loops import (
    Done,
    Work,
    as_if_trained,
    by_hand,
    losses_of_one_batch,
    perceptron,
    pixels,
    with_data_loader,
    with_torchdistill,
    with_understudy,
)
from terminal import Terminal, watched

options = arguments(__doc__.partition("\n")[0], data="MNIST")
rounds, steps, samples, widths = (5, 400, 60_000, (30, 300, 800)) if not options.quick else (2, 4, 512, (30,))
goals = {30: 1.15, 800: 1.05}
has_torchdistill = find_spec("torchdistill") is not None
load_before = warn_if_busy()

torch.manual_seed(0)
data = pixels(options.data, (1, 28, 28), samples)
teacher = as_if_trained(perceptron(784, 1200, 1200, 10), data, batch=128)
terminal = Terminal()
tables = []
for width in widths:
    work = Work(teacher, perceptron(784, width, width, 10), data, steps, batch=128)
    losses = losses_of_one_batch(work, torchdistill=has_torchdistill)
    contenders: dict[str, Callable[[Work], Done]] = {
        "hand-written": by_hand,
        "understudy": partial(with_understudy, terminal=terminal.stream),
        "hand-written, default optimizer": partial(by_hand, fused=False),
        "hand-written, DataLoader": with_data_loader,
    }
    if has_torchdistill:
        contenders["torchdistill"] = with_torchdistill
    trained: dict[str, list[float]] = {name: [] for name in contenders}

    def milliseconds(name: str, run: Callable[[Work], Done], work: Work) -> float:
        seconds, loss = run(work)
        trained[name].append(loss)  # noqa: B023 - called within this turn of the loop
        return 1e3 * seconds / work.steps

    with watched(terminal):
        for run in contenders.values():
            run(work.shorter(max(steps // 10, 1)))
        figures = in_turns({name: partial(milliseconds, name, run, work) for name, run in contenders.items()}, rounds)
    table = case(f"students of {width}-{width} units", "ms per step", figures, first_loss=losses, mean_losses=trained)
    compare(table, "understudy", "hand-written", at_most=goals.get(width))
    for other in ("hand-written, default optimizer", "hand-written, DataLoader", "torchdistill"):
        compare(table, "understudy", other)
    compare(table, "torchdistill", "hand-written")
    tables.append(table)
terminal.close()

finish(
    "step_time",
    options,
    tables,
    data=options.data or "random pixels",
    samples=len(data.images),
    steps=steps,
    batch=128,
    left_out=[] if has_torchdistill else ["torchdistill (not installed)"],
    bytes_displayed=terminal.bytes,
    load_before=load_before,
)
