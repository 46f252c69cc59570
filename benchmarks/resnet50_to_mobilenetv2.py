"""Samples per second of distilling ResNet-50 into MobileNetV2 on images of 32×32, with a live teacher, on the CPU.

    python benchmarks/resnet50_to_mobilenetv2.py --data uoft-cs/cifar10

Contenders: `understudy.fit` as it comes (`execution: auto` tries memory formats before it starts; its time includes
that), the same where bf16 is allowed, torchdistill as it comes, a loop by hand as most people write it, and one by
hand in the memory format that is best here; these in fp32. Goal: at least 2.5 times torchdistill. About 6 minutes.
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
    pixels,
    with_data_loader,
    with_torchdistill,
    with_understudy,
)
from terminal import Terminal, watched
from torchvision.models import mobilenet_v2, resnet50

options = arguments(__doc__.partition("\n")[0], data="CIFAR-10")
# fit gets as many steps as it takes for the probe to pay; the others show their speed in fewer.
rounds, long, short, batch = (3, 320, 30, 128) if not options.quick else (1, 2, 2, 8)
has_torchdistill = find_spec("torchdistill") is not None
load_before = warn_if_busy()

torch.manual_seed(0)
data = pixels(options.data, (3, 32, 32), long * batch)
teacher, student = as_if_trained(resnet50(num_classes=10), data, batch), mobilenet_v2(num_classes=10)
work = Work(teacher, student, data, short, batch)
losses = losses_of_one_batch(work, torchdistill=has_torchdistill)
in_best_format = Work(
    resnet50(num_classes=10).to(memory_format=torch.channels_last),  # pyright: ignore[reportCallIssue]
    mobilenet_v2(num_classes=10).to(memory_format=torch.channels_last),  # pyright: ignore[reportCallIssue]
    data,
    short,
    batch,
)
in_best_format.teacher.load_state_dict(teacher.state_dict())
in_best_format.student.load_state_dict(student.state_dict())

terminal, plans = Terminal(), []
fit = partial(with_understudy, terminal=terminal.stream, plans=plans)
contenders: dict[str, tuple[Callable[[Work], Done], Work]] = {
    "understudy": (fit, work.shorter(long)),
    "understudy, bf16 allowed": (partial(fit, precisions=("bf16",)), work.shorter(long)),
    "hand-written, DataLoader": (with_data_loader, work),
    "hand-written, channels_last": (by_hand, in_best_format),
}
if has_torchdistill:
    contenders["torchdistill"] = (with_torchdistill, work)
trained: dict[str, list[float]] = {name: [] for name in contenders}


def samples_per_second(name: str, run: Callable[[Work], Done], work: Work) -> float:
    seconds, loss = run(work)
    trained[name].append(loss)
    return work.steps * work.batch / seconds


with watched(terminal):
    for run, task in contenders.values():
        run(task.shorter(2))
    turns = {name: partial(samples_per_second, name, run, task) for name, (run, task) in contenders.items()}
    figures = in_turns(turns, rounds)
terminal.close()
seen = {"first_loss": losses, "mean_losses": trained, "plans": plans}
table = case("ResNet-50 to MobileNetV2, 32×32", "samples per second", figures, **seen)
compare(table, "understudy", "torchdistill", at_least=2.5)
compare(table, "understudy, bf16 allowed", "torchdistill", at_least=2.5)
compare(table, "understudy", "hand-written, DataLoader")
compare(table, "understudy", "hand-written, channels_last")

finish(
    "resnet50_to_mobilenetv2",
    options,
    [table],
    data=options.data or "random pixels",
    steps={"understudy": long, "the others": short},
    batch=batch,
    left_out=[] if has_torchdistill else ["torchdistill (not installed)"],
    bytes_displayed=terminal.bytes,
    load_before=load_before,
)
