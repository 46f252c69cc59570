"""What is in a recording, how good the teacher was that answered, and whether the files are as they were written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from understudy.batch import known
from understudy.errors import InputError
from understudy.files import file_digest
from understudy.knowledge import Knowledge
from understudy.recordings.manifest import NAME, Manifest, Part
from understudy.recordings.recording import Recording
from understudy.recordings.shards import Shard, find_shards

_AT_ONCE = 2 * 1024**2
"""Numbers that are decoded at once, so that the memory does not grow with the recording."""
_NAMED = re.compile(r"-([0-9a-f]{16})\.safetensors$")
"""Files whose name holds the beginning of their SHA-256."""


@dataclass(frozen=True)
class SplitAnswers:
    """What the teacher answered for the samples of one split.

    Attributes:
        name: of the split.
        samples: how many there are.
        labelled: how many of them have a label.
        views: in how many augmented views they were shown; 0: as they are.
        answers: how many rows could be read: one for each sample and view, in a whole recording.
        accuracy: fraction of the labelled rows whose likeliest class is the label, as they were shown; None without
            a label, for mixes of two samples, and for answers that are numbers.
        entropy: mean over all rows, in nats. Beside ``top`` all other classes count as one; None without a row, and for
            answers that are numbers.
        outside_top: mean probability of the classes that were not kept; None where all were.
        top1: how often each class was the likeliest, in the order of the manifest's classes.
    """

    name: str
    samples: int
    labelled: int
    views: int
    answers: int
    accuracy: float | None
    entropy: float | None
    outside_top: float | None
    top1: tuple[int, ...]


@dataclass(frozen=True)
class Inspection:
    """A look at a recording.

    Attributes:
        folder: where it lies.
        manifest: what it says of itself.
        files: how many files with answers there are.
        size_bytes: of all files together.
        answer_bytes: of the files with answers.
        splits: what was answered, split by split.
        missing: what is not recorded, each as a text; nothing for a whole recording.
        damaged: each file that cannot be read, or is not what was written, with what is wrong with it.
        verified: whether every file was compared with its digest.
    """

    folder: Path
    manifest: Manifest
    files: int
    size_bytes: int
    answer_bytes: int
    splits: tuple[SplitAnswers, ...]
    missing: tuple[str, ...]
    damaged: tuple[str, ...]
    verified: bool

    @property
    def sound(self) -> bool:
        """Whether nothing is missing, and nothing is known to be damaged."""
        return not self.missing and not self.damaged


def find_recordings(path: str | Path) -> list[Path]:
    """The recordings in a folder: itself, or those that the stages of a run have left.

    Args:
        path: a recording, a stage's directory, or a run's.

    Raises:
        InputError: when there is none.
    """
    path = Path(path)
    if (path / NAME).is_file():
        return [path]
    patterns = ("recording", "seed-*/recording", "stages/*/seed-*/recording")
    found = [folder for pattern in patterns for folder in sorted(path.glob(pattern)) if (folder / NAME).is_file()]
    if not found:
        there = "does not exist" if not path.exists() else "holds no recording"
        raise InputError(
            f"{path} {there}; expected a folder with a {NAME}, or the directory of a run or a stage that recorded one "
            "(`understudy record RECIPE` makes it)"
        )
    return found


def inspect_recording(folder: str | Path, *, verify: bool = False) -> Inspection:
    """Read all answers once, a few at a time.

    Args:
        folder: of the recording.
        verify: also compare every file with its digest.

    Raises:
        InputError: when the manifest or the file with the samples cannot be read; with ``verify`` it names all other
            damaged files too.
    """
    folder = Path(folder)
    damaged = damaged_files(folder) if verify else {}
    try:
        recording = Recording(folder)
        shards = {view: find_shards(folder, view) for view in recording.views}
    except InputError as error:
        said = [text for path, text in damaged.items() if str(path) not in str(error)]
        raise InputError("\n".join([str(error), *said])) from error
    tallies = {part.name: _Tally(recording.manifest, part) for part in recording.manifest.parts}
    for part in recording.manifest.parts:
        tally = tallies[part.name]
        tally.of_part(recording.samples.targets[part.first : part.last])
        for view in part.shown:
            for shard in shards[view]:
                try:
                    tally.read(shard, part, recording.samples.targets)
                except (InputError, SafetensorError, OSError) as error:
                    damaged.setdefault(shard.path, f"{shard.path} cannot be read: {error}")
    sizes = [shard.path.stat().st_size for each in shards.values() for shard in each]
    others = [folder / NAME, folder / recording.manifest.samples]
    return Inspection(
        folder=folder,
        manifest=recording.manifest,
        files=len(sizes),
        size_bytes=sum(sizes) + sum(path.stat().st_size for path in others),
        answer_bytes=sum(sizes),
        splits=tuple(tally.result() for tally in tallies.values()),
        missing=tuple(map(str, recording.holes())),
        damaged=tuple(damaged.values()),
        verified=verify,
    )


def damaged_files(folder: Path) -> dict[Path, str]:
    """Every file that is not what was written, by the digest in its name, with what is wrong.

    Args:
        folder: of the recording.
    """
    found: dict[Path, str] = {}
    for path in sorted(folder.rglob("*.safetensors")):
        expected = _NAMED.search(path.name)
        if expected is None:
            continue
        try:
            digest = file_digest(path)[: len(expected[1])]
        except OSError as error:
            found[path] = f"{path} cannot be read: {error.strerror}"
            continue
        if digest != expected[1]:
            found[path] = f"{path} is damaged: its SHA-256 begins with {digest}, its name says {expected[1]}"
    return found


@dataclass
class _Tally:
    """Counts over the answers of a split."""

    manifest: Manifest
    part: Part
    samples: int = 0
    labelled: int = 0
    answers: int = 0
    positions: int = 0
    judged: int = 0
    right: int = 0
    entropy: float = 0.0
    outside: float = 0.0
    top1: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def of_part(self, targets: Tensor) -> None:
        self.samples += len(targets)
        self.labelled += int(known(targets).unsqueeze(-1).flatten(1).any(1).sum())

    def read(self, shard: Shard, part: Part, targets: Tensor) -> None:
        """Count the rows of a shard that belong to a part."""
        for first, answer in _answers(shard, part, self.manifest):
            self._count(answer, targets[first : first + len(answer.logits)], mixed=part.views > 0)

    def _count(self, answer: Knowledge, labels: Tensor, *, mixed: bool) -> None:
        self.answers += len(answer.logits)
        if self.manifest.task is not None:
            return  # numbers have no likeliest class
        classes, top = len(self.manifest.classes), answer.top
        if top is not None and top.drawn:
            entropy = -answer.logits.mean(-1)  # of draws, without bias
        else:
            logits = answer.logits if top is None else torch.cat([answer.logits, top.tails[1.0].unsqueeze(-1)], -1)
            logarithms = logits.float().log_softmax(-1)
            shares = logarithms.exp()
            entropy = -(shares * logarithms.where(shares > 0, 0.0)).sum(-1)
            self.outside += float(shares[..., -1][_told(answer)].sum(dtype=torch.float64)) if top is not None else 0.0
        best = answer.logits.argmax(-1, keepdim=True)
        likeliest = (best if top is None else top.kept.gather(-1, best)).squeeze(-1)
        told = _told(answer)
        self.positions += int(told.sum())
        self.entropy += float(entropy[told].sum(dtype=torch.float64))
        counts = likeliest[told].bincount(minlength=classes)
        self.top1 = counts if not len(self.top1) else self.top1 + counts
        if likeliest.shape == labels.shape and not (mixed and self.manifest.views.mixes):
            there = known(labels)
            self.judged += int(there.sum())
            self.right += int((likeliest[there] == labels[there]).sum())

    def result(self) -> SplitAnswers:
        kept = self.manifest.keep.top is not None and self.positions > 0
        return SplitAnswers(
            name=self.part.name,
            samples=self.samples,
            labelled=self.labelled,
            views=self.part.views,
            answers=self.answers,
            accuracy=self.right / self.judged if self.judged else None,
            entropy=self.entropy / self.positions if self.positions else None,
            outside_top=self.outside / self.positions if kept else None,
            top1=tuple(self.top1.tolist()) or (0,) * len(self.manifest.classes),
        )


def _told(answer: Knowledge) -> Tensor:
    """Bool, without the class dimension: where there is an answer; where none counts, zeros are kept."""
    if answer.logits.ndim < 3:
        return torch.ones(answer.logits.shape[:-1], dtype=torch.bool)
    return (answer.logits != 0).any(-1)


def _answers(shard: Shard, part: Part, manifest: Manifest) -> Iterator[tuple[int, Knowledge]]:
    """The rows of a shard that belong to a part, a few at a time, each time with the position of the first."""
    first, last = max(shard.first, part.first), min(shard.last, part.last)
    if first >= last:
        return
    with safe_open(shard.path, framework="pt") as file:
        names = manifest.keep.names(())
        missing = [name for name in names if name not in file.keys()]  # noqa: SIM118 - not a mapping
        slices = {name: file.get_slice(name) for name in names if name not in missing}
        shapes = {name: tuple(each.get_shape()) for name, each in slices.items()}
        if missing or any(shape[:1] != (shard.last - shard.first,) for shape in shapes.values()):
            raise InputError(
                f"it holds {shapes}, expected {', '.join(names)} with {shard.last - shard.first} rows each"
            )
        of_each = max(torch.Size(shape[1:]).numel() for shape in shapes.values())
        step = max(1, _AT_ONCE // max(1, of_each))
        for begin in range(first, last, step):
            end = min(begin + step, last)
            rows = {name: each[begin - shard.first : end - shard.first] for name, each in slices.items()}
            yield begin, manifest.keep.decode(rows, classes=len(manifest.classes), layers=())
