"""Running a teacher once over samples and their views, and keeping what it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError, RunError, UnderstudyError, listing
from understudy.identity import identity_of, runtime_of
from understudy.knowledge import Knowledge
from understudy.recordings import Manifest, Part, Recording, Storage
from understudy.recordings.beginning import begin
from understudy.recordings.checksums import input_checksums
from understudy.recordings.recording import Hole
from understudy.recordings.samples import Samples
from understudy.recordings.shards import write_shard
from understudy.recordings.storage import INPUTS, LOGITS
from understudy.sources.cache import content_digest
from understudy.sources.loader import Loader
from understudy.sources.pairs import Pairs
from understudy.sources.splits import Split
from understudy.tasks.classification import Classification
from understudy.tasks.task import Task
from understudy.teachers import ModuleTeacher, OnnxTeacher, Teacher
from understudy.views import Views, random_bits

SHARD_BYTES = 32 * 1024**2
"""About how large a file becomes."""
SHARD_ROWS = 8192
"""And how many samples it holds at the most: what an interruption can cost."""
_WAITING = 2
"""Shards that may wait for the disk while the teacher goes on."""


@dataclass(frozen=True)
class Team:
    """The processes that record together.

    Attributes:
        rank: number of this one.
        world: how many there are.
        wait: returns when all processes have called it.
        gathered: a text, or None, of each process in the order of their ranks; all processes call it.
    """

    rank: int = 0
    world: int = 1
    wait: Callable[[], None] = lambda: None
    gathered: Callable[[str | None], list[str | None]] = lambda text: [text]

    def agree(self, work: Callable[[], None]) -> None:
        """Do this process's part of a work; where one of them fails, all end.

        Raises:
            UnderstudyError: of this process, or naming the one that failed.
        """
        problem: UnderstudyError | None = None
        try:
            work()
        except UnderstudyError as error:
            problem = error
        said = self.gathered(None if problem is None else str(problem))
        if problem is not None:
            raise problem
        for rank, text in enumerate(said):
            if text is not None:
                raise RunError(f"process {rank} of those that record together could not go on: {text}")
        self.wait()


def record(
    teacher: nn.Module | Teacher,
    split: Split,
    folder: str | Path,
    *,
    views: Views | None = None,
    count: int = 1,
    seed: int = 0,
    plain: Split | None = None,
    keep: Storage | None = None,
    task: Task | None = None,
    batch_size: int = 256,
    name: str = "teacher",
    data: str | None = None,
    extend: bool = False,
    device: torch.device | str = "cpu",
    team: Team | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Recording:
    """Show samples to a teacher and keep its answers; what is there already is not asked again.

    Killed at any moment, the same call goes on: a file is there when it is whole.

    Args:
        teacher: a network, or anything with ``observe(batch, taps)``.
        split: the samples that students will be trained on.
        folder: where the recording goes.
        views: how the samples are augmented; as they are when not given.
        count: how many views of each; students see them in turns, one in each epoch.
        seed: of the views, and of what is drawn.
        plain: other samples that are shown as they are, such as those of the validation split.
        keep: what is kept of the answers, and how.
        task: how the network is called; classification when not given.
        batch_size: samples that are shown at once.
        name: what the teacher is called.
        data: a digest of the data set that the samples are of.
        extend: let a recording that is there grow by views or samples.
        device: where the teacher computes.
        team: the processes that record together, each its own shards.
        progress: called with the number of answers that are done and of all.

    Returns:
        The recording, whole.

    Raises:
        InputError: when the teacher or the samples cannot be recorded, or the folder holds a recording of something
            else: naming the fields, with both values.
        RunError: when the disk does not take it, here or in another process; what was recorded before is intact.
    """
    folder, task, keep, team = Path(folder), task or Classification(), keep or Storage(), team or Team()
    if isinstance(teacher, nn.Module) and not isinstance(teacher, Teacher):
        teacher = ModuleTeacher(teacher, task=task)
    views = views if views is not None and views.changes else None
    _check_shown(split, plain, views, count)
    loaders = [Loader(split, batch_size=batch_size, shuffle=False, views=views, view_seed=seed, cycle=count)]
    loaders += [Loader(plain, batch_size=batch_size, shuffle=False)] if plain is not None else []
    first = next(iter(loaders[0]))
    example = _answer(teacher, keep, first, device)
    classes = task.choices(split.classes) or tuple(map(str, range(example.logits.shape[-1])))
    _check(example, split, classes, keep, task)

    def prepare() -> None:
        if team.rank == 0:
            shown = [loader.split for loader in loaders]
            manifest = _manifest(
                shown, loaders[0], keep, name=name, teacher=teacher, data=data, classes=classes, task=task
            )
            begin(folder, manifest, _samples(shown), extend=extend)

    team.agree(prepare)
    recording = Recording(folder)
    readers = {part: _Reader(loaders, part, recording.samples) for part in recording.manifest.parts}
    rows, holes = _shard_rows(_encoded(example, keep, first, seed), batch_size), recording.holes()
    team.wait()  # all have seen the same holes before anybody fills one
    team.agree(
        lambda: _fill(
            recording, holes, readers, teacher, rows=rows, seed=seed, device=device, team=team, progress=progress
        )
    )
    return Recording(folder)


def _check_shown(split: Split, plain: Split | None, views: Views | None, count: int) -> None:
    if views is None and count != 1:
        raise InputError(f"{count} views of samples that are not augmented are all the same; give `views`, or count=1")
    if count < 1:
        raise InputError(f"count={count}; expected at least one view of each sample")
    if plain is not None and plain.name == split.name:
        raise InputError(f"both splits are called {split.name!r}; expected two names, so that they can be told apart")


def _check(example: Knowledge, split: Split, classes: tuple[str, ...], keep: Storage, task: Task) -> None:
    if keep.sparse and task.answers != "classes":
        raise InputError(
            f"`top` and `drawn` keep some of the classes, and these answers are {task.answers}; leave them out"
        )
    keep.check(example)
    if isinstance(split.inputs, Pairs) and (
        spread := [each for each in keep.layers if example.features[each].ndim > 2]
    ):
        raise InputError(
            f"the layers {listing(spread)} give each token of a prompt or an answer, and those have different numbers "
            "of them, which are not recorded; record the logits, or ask the teacher live"
        )
    if len(classes) != example.logits.shape[-1]:
        raise InputError(
            f"the teacher has {example.logits.shape[-1]} classes and the data {len(classes)}; expected the same "
            "classes in the same order"
        )
    tokens = example.tokens.shape if example.tokens is not None else None
    ragged = [layer for layer in keep.layers if example.features[layer].shape[:2] == tokens]
    if ragged:
        raise InputError(
            f"the layers {listing(ragged)} give each token of a text, and texts have different numbers of them, which "
            "are not recorded; record the logits or a layer that gives one vector of each text, or ask the teacher live"
        )


def _answer(teacher: Teacher, keep: Storage, batch: Batch, device: torch.device | str) -> Knowledge:
    answer = teacher.observe(batch.to(device), tuple(keep.layers))
    if answer.top is not None:
        raise InputError("this teacher does not tell all of its classes, so it cannot be recorded again")
    if batch.mask is None:
        return answer
    return replace(answer, logits=answer.logits.masked_fill(~batch.mask.to(answer.logits.device)[..., None], 0.0))


def _manifest(
    splits: list[Split],
    loader: Loader,
    keep: Storage,
    *,
    name: str,
    teacher: Teacher,
    data: str | None,
    classes: tuple[str, ...],
    task: Task,
) -> Manifest:
    """What is recorded now: the first split in the loader's views, all others as they are."""
    split, views, parts, first = splits[0], loader.views, [], 0
    for number, each in enumerate(splits):
        count = (loader.cycle or 1) if number == 0 and views is not None else 0
        parts.append(Part(name=each.name, first=first, last=first + len(each), views=count))
        first += len(each)
    return Manifest(
        understudy=version("understudy"),
        teacher=name,
        weights=identity_of(teacher),
        runtime=runtime_of(teacher),
        task=None if task.answers == "classes" else task.kind,
        classes=classes,
        probabilities=isinstance(teacher, OnnxTeacher) and bool(teacher.probabilities),
        data=data,
        input_shape=split.shape,
        views=views or Views(),
        view_seed=loader.view_seed if views is not None else 0,
        mixing=drawn_from(split) if views is not None and views.mixes else None,
        keep=keep,
        samples="",
        parts=tuple(parts),
    )


def _samples(splits: list[Split]) -> Samples:
    return Samples(*(torch.cat([getattr(split, field).cpu() for split in splits]) for field in ("ids", "targets")))


def drawn_from(split: Split) -> str:
    """A digest of what decides who is mixed with whom: the ids in their order, and which of them have a label.

    Args:
        split: the samples that partners are drawn from.
    """
    return content_digest(torch.stack([split.ids.cpu(), split.known.cpu().long()]))


class _Reader:
    """Shows the samples of one part of a recording."""

    def __init__(self, loaders: list[Loader], part: Part, samples: Samples) -> None:
        loader = next(each for each in loaders if each.split.name == part.name)
        ids = samples.ids[part.first : part.last]
        self._first, self._loader = part.first, loader
        if not torch.equal(loader.split.ids.cpu(), ids):
            order = loader.split.ids.cpu().argsort()
            chosen = order[torch.searchsorted(loader.split.ids.cpu()[order], ids)]
            self._loader = Loader(
                loader.split.select(chosen),
                batch_size=loader.batch_size,
                shuffle=False,
                views=loader.views,
                view_seed=loader.view_seed,
                cycle=part.views or None,
            )
        elif part.views:
            self._loader.cycle = part.views

    def batches(self, view: int | None, first: int, last: int) -> Iterator[Batch]:
        """The samples in some positions of the recording, in one view."""
        self._loader.set_epoch(view or 0)
        return self._loader.between(first - self._first, last - self._first)


def _shard_rows(example: dict[str, Tensor], batch_size: int) -> int:
    """How many samples a file holds: whole batches."""
    of_each = sum(tensor.nbytes for tensor in example.values()) // len(next(iter(example.values()))) + 4
    rows = min(SHARD_ROWS, SHARD_BYTES // of_each)
    return max(rows // batch_size, 1) * batch_size


def _fill(
    recording: Recording,
    holes: list[Hole],
    readers: dict[Part, _Reader],
    teacher: Teacher,
    *,
    rows: int,
    seed: int,
    device: torch.device | str,
    team: Team,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Record everything that is missing; each process its own shards."""
    total = sum((part.last - part.first) * len(part.shown) for part in recording.manifest.parts)
    done = total - sum(hole.last - hole.first for hole in holes)
    pieces = [
        replace(hole, first=first, last=min(first + rows, hole.last))
        for hole in holes
        for first in range(hole.first, hole.last, rows)
    ]
    with ThreadPoolExecutor(max_workers=1) as disk:
        waiting: list[Future[object]] = []
        for piece in pieces[team.rank :: team.world]:
            tensors = _recorded(piece, readers[piece.part], teacher, recording, seed, device)
            waiting.append(disk.submit(write_shard, recording.folder, piece.view, piece.first, tensors))
            if len(waiting) > _WAITING:
                waiting.pop(0).result()
            done += (piece.last - piece.first) * team.world
            if progress is not None:
                progress(min(done, total), total)
        for each in waiting:
            each.result()


def _recorded(
    piece: Hole, reader: _Reader, teacher: Teacher, recording: Recording, seed: int, device: torch.device | str
) -> dict[str, Tensor]:
    """The tensors of one shard, each sample with as many positions as the longest of all has."""
    answers, keep, width = [], recording.manifest.keep, recording.samples.targets[0].numel()
    for batch in reader.batches(piece.view, piece.first, piece.last):
        sums = input_checksums(batch.inputs)
        encoded = _encoded(_answer(teacher, keep, batch, device), keep, batch, seed)
        if batch.mask is not None:
            encoded[LOGITS] = encoded[LOGITS].masked_fill(~batch.mask.cpu()[..., None], 0)
            told = {name: each for name, each in encoded.items() if name not in keep.layers}
            encoded |= {name: _widened(each, width) for name, each in told.items()}
        answers.append({**encoded, INPUTS: sums.cpu()})
    return {name: torch.cat([answer[name] for answer in answers]) for name in answers[0]}


def _widened(tensor: Tensor, width: int) -> Tensor:
    """(n, positions, …) with zeros behind: (n, ``width``, …)."""
    wide = tensor.new_zeros(len(tensor), width, *tensor.shape[2:])
    wide[:, : tensor.shape[1]] = tensor
    return wide


def _encoded(answer: Knowledge, keep: Storage, batch: Batch, seed: int) -> dict[str, Tensor]:
    assert batch.ids is not None  # our loader gives ids
    view = 0 if batch.view is None else batch.view + 1
    try:
        return keep.encode(answer, seeds=random_bits(batch.ids.cpu(), seed, view))
    except InputError as error:
        wrong = ~torch.stack([_finite(each) for each in (answer.logits, *answer.features.values())]).all(0).cpu()
        ids = batch.ids.cpu()[wrong if wrong.any() else slice(None)]
        more = f" and {len(ids) - 4} more" if len(ids) > 4 else ""
        raise RunError(f"{error} (ids {', '.join(map(str, ids[:4].tolist()))}{more})") from error


def _finite(values: Tensor) -> Tensor:
    """Bool (n,): which samples have only finite numbers."""
    return values.isfinite().flatten(1).all(1) if values.ndim > 1 else values.isfinite()
