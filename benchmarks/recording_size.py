"""What a recording costs on disk and in memory, and what is left of a teacher that is kept in fewer bits.

    python benchmarks/recording_size.py --data ylecun/mnist

Bytes for each sample and view with 10, 1,000 and 32,000 classes: all classes in float32, float16 and int8, or the
likeliest 8 or 64 in float16, with the tail. Accuracy of students that learn from each of them: on MNIST with 500
labels, and on a synthetic set of 1,000 classes without any label; goal: none below 0.99 of float32. And the most memory
that a process holds of its own, without what is mapped from files, while it records, and while it reads, 100,000 and
1,000,000 rows of 100 synthetic classes; goal: at most 1.25 times as much for ten times the rows. About 20 minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from contest import arguments, case, compare, finish, in_turns, warn_if_busy
from loops import perceptron, pixels
from recording_process import Synthetic, split_of
from torch import Tensor, nn

import understudy as us
from understudy.engine import SilentProgress
from understudy.sources.splits import Split

options = arguments(__doc__.partition("\n")[0], data="MNIST")
load_before = warn_if_busy()
seeds, epochs, size = (3, 20, 20_000) if not options.quick else (1, 1, 64)
TEMPERATURE = 4.0
DENSE = {
    "float32": us.Storage(dtype="float32"),
    "float16": us.Storage(dtype="float16"),
    "int8": us.Storage(dtype="int8"),
}


def likeliest(*tops: int) -> dict[str, us.Storage]:
    return {f"top {top}": us.Storage(dtype="float16", top=top, temperatures=(TEMPERATURE,)) for top in tops}


def bytes_per_sample(classes: int, keep: us.Storage) -> float:
    count = 1024 if not options.quick else 16
    split = split_of(torch.zeros(count, 1), torch.zeros(count, dtype=torch.int64), classes)
    with tempfile.TemporaryDirectory() as folder:
        recording = us.record(Synthetic(classes), split, folder, keep=keep)
        return sum(shard.path.stat().st_size for shard in recording.shards()) / count


def sizes(classes: int) -> dict[str, Any]:
    keeps = DENSE | likeliest(*(top for top in (8, 64) if top < classes))
    figures = {name: [bytes_per_sample(classes, keep)] for name, keep in keeps.items()}
    table = case(f"{classes:,} classes", "bytes per sample and view", figures)
    for name in keeps:
        if name != "float32":
            compare(table, name, "float32")
    return table


def fitted(distiller: us.Distiller, split: Split, test: Split, *, seed: int) -> float:
    """Accuracy on the test samples after training."""
    loader = us.Loader(split, batch_size=128, seed=seed)
    training = us.Training(
        epochs=epochs, batch_size=128, optimizer=us.Optimizer(kind="adamw", lr=2e-3), schedule=us.Cosine()
    )
    us.fit(distiller, loader, training, seed=seed, progress=SilentProgress())
    right = 0
    with torch.no_grad():
        for batch in us.Loader(test, batch_size=500, shuffle=False):
            assert batch.targets is not None
            right += int((distiller.student.eval()(batch.inputs).argmax(-1) == batch.targets).sum())
    return right / len(test)


def accuracies(
    name: str, teacher: nn.Module, widths: tuple[int, ...], train: Split, test: Split, tops: tuple[int, ...]
) -> dict[str, Any]:
    """Students of three seeds from each kind of recording; the same seeds for all."""
    keeps = DENSE | likeliest(*tops)
    labelled = bool((train.targets != us.IGNORE_INDEX).any())
    terms = sum([0.9 * us.SoftTargets(temperature=TEMPERATURE), *([0.1 * us.CrossEntropy()] if labelled else [])])
    example = next(iter(us.Loader(train, batch_size=128)))
    with tempfile.TemporaryDirectory() as scratch:
        folders = {kept: Path(scratch) / kept for kept in keeps}
        for kept, keep in keeps.items():
            us.record(teacher, train, folders[kept], keep=keep)
        figures: dict[str, list[float]] = {kept: [] for kept in keeps}
        for seed in range(seeds):
            for kept, folder in folders.items():
                torch.manual_seed(seed)
                distiller = us.Distiller(perceptron(*widths), us.Recorded(folder), terms, example=example)
                figures[kept].append(max(fitted(distiller, train, test, seed=seed), 1e-6))
                print(f"  {name}, seed {seed}  {kept}: {figures[kept][-1]:.4f}", file=sys.stderr, flush=True)
    with torch.no_grad():
        right = (teacher(_floats(test)).argmax(-1) == test.targets).float().mean()
    table = case(name, "accuracy", figures, teacher=float(right), samples=len(train))
    for kept in keeps:
        if kept != "float32":
            compare(table, kept, "float32", at_least=0.99)
    return table


def _floats(split: Split) -> Tensor:
    assert isinstance(split.inputs, Tensor)
    return split.inputs if split.inputs.is_floating_point() else split.inputs.float() / 255


def mnist() -> dict[str, Any]:
    """A perceptron of 1200 units that saw all labels teaches one of 64 that sees 500."""
    if options.data is not None and not options.quick:
        from understudy.sources.data import DataSpec, load_data

        data = load_data(DataSpec(source=options.data), task=us.ImageClassification())
        train, test = data.train, data.test
    else:
        samples = pixels(None, (1, 28, 28), 2 * size)
        train = split_of(samples.images[:size], samples.labels[:size], 10)
        test = split_of(samples.images[size:], samples.labels[size:], 10)
    torch.manual_seed(0)
    teacher = perceptron(784, 1200, 1200, 10)
    example = next(iter(us.Loader(train, batch_size=128)))
    fitted(us.Distiller(teacher, None, us.CrossEntropy(), example=example), train, test, seed=0)
    few = train.subset(us.Subset(labels=500 if not options.quick else 20), seed=0)
    return accuracies("MNIST with 500 labels", teacher.eval(), (784, 64, 10), few, test, (3, 8))


def thousand() -> dict[str, Any]:
    """Points around 1,000 centres in 32 dimensions; the teacher knows the centres, the student is told no label."""
    generator = torch.Generator().manual_seed(0)
    classes, width, noise = 1000, 32, 1.0
    centres = torch.randn(classes, width, generator=generator)
    labels = torch.randint(0, classes, (2 * size,), generator=generator)
    points = centres[labels] + noise * torch.randn(2 * size, width, generator=generator)
    head = nn.Linear(width, classes)  # the logarithm of each class's density, but for what all have in common
    with torch.no_grad():
        head.weight.copy_(centres / noise**2)
        head.bias.copy_(-centres.square().sum(-1) / (2 * noise**2))
    train = split_of(points[:size], torch.full((size,), us.IGNORE_INDEX), classes)
    test = split_of(points[size:], labels[size:], classes)
    return accuracies("1,000 synthetic classes", head.eval(), (width, 64, classes), train, test, (8, 64))


def private_peak(job: str, rows: int, folder: Path, seen: list[dict[str, Any]]) -> float:
    """MiB that the process held of its own at the most."""
    program = str(Path(__file__).with_name("recording_process.py"))
    settings = json.dumps({"job": job, "rows": rows, "classes": 100, "folder": str(folder / str(rows))})
    done = subprocess.run([sys.executable, program, settings], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    seen.append({"job": job, "rows": rows, **found})
    return found["private_peak_bytes"] / 2**20


def memory() -> list[dict[str, Any]]:
    counts = (100_000, 1_000_000) if not options.quick else (100, 1_000)
    tables, names = [], [f"{count:,} rows" for count in counts]
    with tempfile.TemporaryDirectory() as scratch:
        for job in ("recording", "reading"):
            seen: list[dict[str, Any]] = []
            turns = {
                name: partial(private_peak, job, count, Path(scratch), seen)
                for name, count in zip(names, counts, strict=True)
            }
            figures = in_turns(turns, 1)
            table = case(f"memory while {job}", "MiB of its own at the most", figures, processes=seen)
            compare(table, names[1], names[0], at_most=1.25)
            tables.append(table)
    return tables


tables = [sizes(classes) for classes in (10, 1_000, 32_000)]
tables += [mnist(), thousand(), *memory()]
finish("recording_size", options, tables, data=options.data or "random pixels", load_before=load_before)
