"""What a training goes through: epochs of batches from any loader, from any place in it, in groups of one step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler

from understudy.batch import Batch, known
from understudy.engine.process import Process, shared_loader
from understudy.engine.randomness import decoded, encoded
from understudy.errors import InputError, RunError
from understudy.tasks.task import Task


@runtime_checkable
class EpochLoader(Protocol):
    """A loader whose order is a pure function of its seed and the epoch, and that can begin anywhere in it.

    With several processes it gives this process's part of each batch, and equally many parts to each.
    """

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch from now on."""
        ...

    def iterate(self, start: int) -> Iterator[Batch]:
        """The batches from number ``start`` of the epoch on."""
        ...

    def __len__(self) -> int: ...


@runtime_checkable
class LearningLoader(EpochLoader, Protocol):
    """A loader that itself learns while it is read, such as one that generates its images.

    It is read in order and no further ahead than the training is: what it has learnt when a checkpoint is written
    belongs to the batches that were used until then.
    """

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a checkpoint to be gone on from, as JSON."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """What it has learnt."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state_dict` gave."""
        ...


class Batches:
    """A loader of any kind, ready for a training.

    Args:
        loader: an :class:`EpochLoader`, a ``DataLoader``, or a sequence of batches.
        task: how what it yields becomes a batch.
        current: this process.

    Raises:
        InputError: for a loader without a length, an empty one, or one that cannot be shared by processes.
    """

    def __init__(self, loader: Any, *, task: Task, current: Process) -> None:
        self._task = task
        self._process = current
        given = loader
        if isinstance(loader, DataLoader):
            self._sampler = loader.sampler
            loader = shared_loader(loader, current)  # gives a shuffling sampler a generator, the same everywhere
        elif current.world > 1 and not isinstance(loader, EpochLoader):
            raise InputError(
                f"{current.world} processes cannot share a {type(loader).__name__}; expected a DataLoader or "
                "understudy's Loader with rank and world"
            )
        try:
            self.length = len(loader)
        except TypeError as error:
            raise InputError(
                f"the loader, a {type(loader).__name__}, has no length, but a training needs to know how many "
                "batches an epoch has; pass a DataLoader of a dataset with a length, or a list of batches"
            ) from error
        if self.length == 0:
            raise InputError("the loader has no batches, so there is nothing to train on")
        self._loader = loader
        self._generators = _generators(given)

    def first(self) -> Batch:
        """A batch to try things on; the loader's own generators, and what it has learnt, are left as they were."""
        states, learnt = self.generator_states(), {name: tensor.clone() for name, tensor in self.learnt().items()}
        raw = next(self.open(0, 0), None)
        self.set_generator_states(states)
        self.set_learnt(learnt)
        if raw is None:
            raise InputError("the loader yields no batches, although it has a length")
        return self._ready(raw)

    def open(self, epoch: int, start: int) -> Iterator[Any]:
        """What the loader yields in one epoch, from batch number ``start`` on.

        Batches before it are drawn and dropped where the loader cannot skip: workers and samplers must get to
        the same place in their own random numbers.
        """
        loader = self._loader
        if isinstance(loader, EpochLoader):
            loader.set_epoch(epoch)
            return loader.iterate(start)
        if isinstance(loader, DataLoader) and isinstance(self._sampler, DistributedSampler):
            self._sampler.set_epoch(epoch)
        stream = iter(loader)
        for _ in range(start):
            next(stream, None)
        return stream

    def groups(self, stream: Iterator[Any], size: int) -> Iterator[list[Batch]]:
        """What :meth:`open` gave, as groups of batches that make one step; the last may have fewer."""
        batches = map(self._ready, stream)
        if size == 1 and self._process.world == 1:
            for batch in batches:
                yield [batch]
            return
        while together := list(islice(batches, size)):
            yield with_totals(together, self._process)

    def generator_states(self) -> list[str]:
        """States of the generators that the loader owns, as text."""
        return [encoded(generator.get_state()) for generator in self._generators]

    def set_generator_states(self, states: Sequence[str]) -> None:
        """Put back what :meth:`generator_states` gave."""
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(decoded(state))

    @property
    def identity(self) -> dict[str, Any] | None:
        """What a loader that learns must have in common with the one of a checkpoint; None for any other loader."""
        return self._loader.identity if isinstance(self._loader, LearningLoader) else None

    def learnt(self) -> dict[str, Tensor]:
        """What the loader has learnt; empty for one that does not learn."""
        return self._loader.state_dict() if isinstance(self._loader, LearningLoader) else {}

    def set_learnt(self, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`learnt` gave."""
        if isinstance(self._loader, LearningLoader):
            self._loader.load_state_dict(state)

    def _ready(self, raw: Any) -> Batch:
        batch = self._task.batch(raw)
        return batch if self._process.device.type == "cpu" else batch.to(self._process.device)


def with_totals(batches: list[Batch], current: Process) -> list[Batch]:
    """Tell each batch how many positions count in the whole step, so that the mean of parts is the mean of all.

    Args:
        batches: the batches of one step in this process.
        current: this process; the counts are added over all of them.
    """
    labelled = [batch.supervised.sum() if batch.targets is not None else None for batch in batches]
    valid = [_valid(batch) for batch in batches]
    totals = [_average(counts, current) for counts in (labelled, valid)]
    return [replace(batch, labelled_total=totals[0], valid_total=totals[1]) for batch in batches]


def _valid(batch: Batch) -> torch.Tensor | None:
    if batch.mask is not None:
        return batch.mask.sum()
    return (
        torch.tensor(known(batch.targets).numel(), device=batch.targets.device) if batch.targets is not None else None
    )


def _average(counts: list[torch.Tensor | None], current: Process) -> torch.Tensor | None:
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        return None
    return current.sum(torch.stack(known).sum()).float() / (len(counts) * current.world)


def _generators(loader: Any) -> list[torch.Generator]:
    """The generators that a ``DataLoader`` or its samplers own; those of the whole process are not among them."""
    owners: list[Any] = []
    if isinstance(loader, DataLoader):
        owners = [loader, loader.sampler, loader.batch_sampler]
        if isinstance(loader.batch_sampler, BatchSampler):
            owners.append(loader.batch_sampler.sampler)
    found = [vars(owner).get("generator") for owner in owners if owner is not None]
    return list({id(one): one for one in found if isinstance(one, torch.Generator)}.values())


def check_progress(made: int, epoch: int) -> None:
    """Refuse to go round in circles over a loader that yields nothing.

    Raises:
        RunError: when the epoch had no batch.
    """
    if made == 0:
        raise RunError(f"the loader yielded no batch in epoch {epoch + 1}, although its length is not 0")
