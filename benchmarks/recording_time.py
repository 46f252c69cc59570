"""What a recording of the teacher saves: a student's epoch, samples per second, and what recording itself costs.

    python benchmarks/recording_time.py --data uoft-cs/cifar10

Three questions, on the CPU in fp32. (1) An epoch of a student that learns from a recording over the same epoch without
any teacher: a small CNN at 28×28 (random pixels), and MobileNetV2 at 32×32; goal at most 1.05. (2) ResNet-50 into
MobileNetV2 at 32×32: samples per second from a recording, with our live teacher, with that teacher on the runtime that
is fastest here, and with torchdistill's live teacher; goals at least 6 times torchdistill from a recording and 4 times
live; and after how many epochs a recording has paid for itself. (3) Samples per second of the recorder over a bare loop
of forward passes; goal at least 0.95. About 25 minutes.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from contest import arguments, case, compare, finish, in_turns, warn_if_busy
from loops import (
    Done,
    Samples,
    Work,
    as_if_trained,
    losses_of_one_batch,
    perceptron,
    pixels,
    split_of,
    with_torchdistill,
    with_understudy,
)
from terminal import Terminal, watched
from torch import nn
from torchvision.models import mobilenet_v2, resnet18, resnet50

import understudy as us

RECORDER_BATCH = 256
"""That of `record` when nothing is said."""
RECORDED, ALONE = "from a recording", "no teacher"
LIVE, FASTEST, TORCHDISTILL = "live teacher", "live teacher, fastest runtime", "torchdistill"
RECORDER, FORWARD = "recorder", "bare forward loop"

options = arguments(__doc__.partition("\n")[0], data="CIFAR-10")
# An epoch is as long as fit needs for its probe to pay; the others show their speed in fewer steps.
rounds, batch, epoch, short, shown = (3, 128, 352, 30, 20_480) if not options.quick else (1, 8, 2, 2, 16)
big = resnet50 if not options.quick else resnet18
has_torchdistill = find_spec("torchdistill") is not None
load_before = warn_if_busy()
terminal, plans = Terminal(), []
fit = partial(with_understudy, terminal=terminal.stream, plans=plans)


def small_cnn() -> nn.Sequential:
    """Three convolutions, of 16 to 64 channels."""
    layers: list[nn.Module] = []
    for below, above in ((1, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(below, above, 3, padding=1, bias=False), nn.BatchNorm2d(above), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 3 * 3, 10))


def answers_of(work: Work, folder: Path) -> Path:
    """The teacher's answers for all samples, recorded anew."""
    shutil.rmtree(folder, ignore_errors=True)
    us.record(work.teacher, split_of(work.samples), folder, batch_size=RECORDER_BATCH)
    return folder


def from_recording(work: Work, folder: Path) -> Done:
    """As ``fit`` with a live teacher, from files that this training is the first to read."""
    return fit(work, teacher=us.Recorded(folder))


def seconds(run: Callable[[Work], Done], work: Work) -> float:
    return run(work).seconds


def samples_per_second(run: Callable[[Work], Done], work: Work) -> float:
    return work.steps * work.batch / run(work).seconds


def warm(contenders: dict[str, tuple[Callable[[Work], Done], Work]]) -> None:
    for run, work in contenders.values():
        run(work.shorter(2))


def epoch_from_a_recording(name: str, work: Work, folder: Path) -> dict[str, Any]:
    """The first question, for one student."""
    answers = answers_of(work, folder)
    contenders = {RECORDED: (partial(from_recording, folder=answers), work), ALONE: (partial(fit, alone=True), work)}
    warm(contenders)
    turns = {who: partial(seconds, run, task) for who, (run, task) in contenders.items()}
    table = case(name, "seconds per epoch", in_turns(turns, rounds), steps=work.steps, batch=work.batch)
    compare(table, RECORDED, ALONE, at_most=1.05)
    return table


def beside_live_teachers(work: Work, folder: Path) -> dict[str, Any]:
    """The second question."""
    answers, losses = answers_of(work, folder), losses_of_one_batch(work, torchdistill=has_torchdistill)
    example = (work.samples.images[: work.batch].div(255), work.samples.labels[: work.batch])
    fastest = us.fastest_teacher(work.teacher, example, task=us.ImageClassification())
    contenders: dict[str, tuple[Callable[[Work], Done], Work]] = {
        RECORDED: (partial(from_recording, folder=answers), work),
        LIVE: (fit, work),
        FASTEST: (partial(fit, teacher=fastest), work),
    }
    if has_torchdistill:
        contenders[TORCHDISTILL] = (with_torchdistill, work.shorter(short))
    warm(contenders)
    turns = {who: partial(samples_per_second, run, task) for who, (run, task) in contenders.items()}
    figures = in_turns(turns, rounds)
    table = case(
        "ResNet-50 to MobileNetV2, 32×32", "samples per second", figures, first_loss=losses, runtime=fastest.note
    )
    compare(table, RECORDED, TORCHDISTILL, at_least=6.0)
    compare(table, FASTEST, TORCHDISTILL, at_least=4.0)
    compare(table, LIVE, TORCHDISTILL)
    compare(table, RECORDED, LIVE)
    return table


def recorder_throughput(work: Work, folder: Path) -> dict[str, Any]:
    """The third question."""
    images = work.samples.images

    def recorder() -> float:
        started = time.perf_counter()
        answers_of(work, folder)
        return len(images) / (time.perf_counter() - started)

    def forward() -> float:
        started = time.perf_counter()
        with torch.no_grad():
            for indices in torch.arange(len(images)).split(RECORDER_BATCH):
                work.teacher(images.index_select(0, indices).div(255))
        return len(images) / (time.perf_counter() - started)

    figures = in_turns({RECORDER: recorder, FORWARD: forward}, rounds)
    table = case("recording ResNet-50, 32×32", "samples per second", figures, samples=len(images))
    compare(table, RECORDER, FORWARD, at_least=0.95)
    return table


def pays_after(speeds: dict[str, float], recorder: float) -> dict[str, float]:
    """After how many epochs recording one view of each sample, and learning from that, has taken less time."""
    saved = {who: 1 / speed - 1 / speeds[RECORDED] for who, speed in speeds.items() if who != RECORDED}
    return {who: round(1 / recorder / each, 2) for who, each in saved.items() if each > 0}


torch.manual_seed(0)
small = pixels(None, (1, 28, 28), epoch * batch)
data = pixels(options.data, (3, 32, 32), epoch * batch)
mnist = Work(as_if_trained(perceptron(784, 1200, 1200, 10), small, batch), small_cnn(), small, epoch, batch)
teacher, student = as_if_trained(big(num_classes=10), data, batch), mobilenet_v2(num_classes=10)
cifar = Work(teacher, student, data, epoch, batch)
few = Work(teacher, student, Samples(data.images[:shown], data.labels[:shown]), epoch, batch)
with tempfile.TemporaryDirectory() as scratch, watched(terminal):
    tables = [
        epoch_from_a_recording("small CNN, 28×28", mnist, Path(scratch) / "small"),
        epoch_from_a_recording("MobileNetV2, 32×32", cifar, Path(scratch) / "mobile"),
        beside_live_teachers(cifar, Path(scratch) / "live"),
        recorder_throughput(few, Path(scratch) / "again"),
    ]
terminal.close()
tables[2]["pays_after_epochs"] = pays_after(tables[2]["medians"], tables[3]["medians"][RECORDER])
print(f"a recording has paid for itself after so many epochs: {tables[2]['pays_after_epochs']}")

finish(
    "recording_time",
    options,
    tables,
    data=options.data or "random pixels",
    batch=batch,
    plans=plans,
    left_out=[] if has_torchdistill else ["torchdistill (not installed)"],
    bytes_displayed=terminal.bytes,
    load_before=load_before,
)
