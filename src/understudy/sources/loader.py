"""Batches of a split, in an order that depends on nothing but a seed and the epoch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from understudy.batch import Batch, known, unknown
from understudy.errors import InputError
from understudy.sources.images import LazyImages
from understudy.sources.pairs import Pairs
from understudy.sources.splits import Split
from understudy.sources.texts import Texts
from understudy.views import Views, folded

_CHUNK_BYTES = 1024 * 1024
"""Samples are fetched and augmented in chunks of about this size: few enough calls, and still in the CPU's cache."""

_ORDER, _TRANSFORM = 21, 22
_POOL = 50
"""Batches of texts that are sorted by length together."""

Transform = Callable[[Tensor], Tensor]


@final
class Loader:
    """Batches of a split: images as float32 in [0, 1], vectors and tokens as they are, texts as bytes before zeros.

    A set in memory is read by whole chunks, without any work per sample; images that stay encoded are decoded
    by worker processes. Both give the same batches. With several processes each takes its contiguous part of the
    same global batch; when the last one holds fewer samples than there are processes, some parts are empty, so
    that all processes take the same number of steps.

    Texts of about the same length, and prompts with their answers, come together, so that little is padded: those of
    50 batches in a row, in an order that has nothing to do with lengths, are sorted by them and cut into batches, which
    come in an order of their own.

    Views that mix read a second sample for each: one of the whole split that has a label if the first has one, and
    none if it has none, so that as many count as labelled as without mixing, however few there are.

    Args:
        split: what to read.
        batch_size: samples of a global batch.
        seed: of the order and the views.
        shuffle: another order in each epoch; False: the order of the split.
        views: how images are augmented; the epoch is the number of the view.
        view_seed: of the views; ``seed`` when not given.
        cycle: how many views there are, after which they come again; None: another one in each epoch.
        transform: any function of one image, uint8 or float (channels, height, width), such as a torchvision v2
            transform; random ones give a sample the same result for the same seed and epoch. It runs sample by
            sample, before the views.
        drop_last: leave out a last batch that is not full.
        rank: number of this process.
        world: how many processes there are.
        workers: processes that decode images which are not in memory; None: up to four.

    Raises:
        InputError: for an impossible size or rank, views of something other than images, or no batch at all.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        views: Views | None = None,
        view_seed: int | None = None,
        cycle: int | None = None,
        transform: Transform | None = None,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
        workers: int | None = None,
    ) -> None:
        _check(split, batch_size, views, drop_last, rank, world)
        self.split, self.batch_size, self.seed, self.epoch = split, batch_size, seed, 0
        self._shuffle, self._drop_last = shuffle, drop_last
        self._rank, self._world = rank, world
        self.views = views if views is not None and views.changes else None
        self.view_seed, self.cycle = seed if view_seed is None else view_seed, cycle
        self.transform = transform
        self._workers = min(4, os.cpu_count() or 1) // world if workers is None else workers

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the views of the iterations that begin from now on."""
        self.epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(len(self.split), self.batch_size)
        return full + (rest > 0 and not self._drop_last)

    def __iter__(self) -> Iterator[Batch]:
        return self.iterate()

    def iterate(self, start: int = 0) -> Iterator[Batch]:
        """The batches of this epoch from number ``start`` on, without reading those before."""
        return self._read(self._parts(self._order())[start : len(self)])

    def between(self, first: int, last: int) -> Iterator[Batch]:
        """Batches of the samples in positions ``first`` to ``last``, exclusive, of this epoch's order."""
        return self._read(self._order()[first:last].split(self.batch_size))

    @property
    def view(self) -> int:
        """Number of the view that this epoch shows."""
        return self.epoch if self.cycle is None else self.epoch % self.cycle

    def _read(self, parts: tuple[Tensor, ...]) -> Iterator[Batch]:
        read = _Reader(self.split, self.views, self.transform, self.view_seed, self.view)
        if isinstance(self.split.inputs, LazyImages) and self._workers > 0:
            return _in_workers(read, parts, self._workers)
        if isinstance(self.split.inputs, LazyImages | Pairs) or self.transform is not None:
            return map(read.__getitem__, parts)
        return read.chunked(parts)

    def _order(self) -> Tensor:
        device = self.split.targets.device
        if not self._shuffle:
            return torch.arange(len(self.split), device=device)
        generator = torch.Generator().manual_seed(folded(self.seed, self.epoch, _ORDER) >> 1)
        order = torch.randperm(len(self.split), generator=generator)
        if isinstance(self.split.inputs, Texts | Pairs):
            order = _by_length(order, self.split.inputs.lengths.cpu(), self.batch_size, generator)
        return order.to(device)

    def _parts(self, order: Tensor) -> tuple[Tensor, ...]:
        """The indices of each batch, this process's share of them."""
        batches = order.split(self.batch_size)
        if self._world == 1:
            return batches
        return tuple(
            batch[len(batch) * self._rank // self._world : len(batch) * (self._rank + 1) // self._world]
            for batch in batches
        )


def _by_length(order: Tensor, lengths: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """The same samples, those of a batch about equally long; what is left of a batch stays at the end, as it was."""
    full = len(order) // size * size
    pools = [pool[lengths[pool].argsort(stable=True)] for pool in order[:full].split(_POOL * size)]
    batches = torch.cat(pools).view(-1, size) if pools else order[:0].view(0, size)
    return torch.cat([batches[torch.randperm(len(batches), generator=generator)].flatten(), order[full:]])


class _Reader(Dataset[Batch]):
    """Makes batches out of indices; what worker processes are given."""

    def __init__(self, split: Split, views: Views | None, transform: Transform | None, seed: int, view: int) -> None:
        self._split, self._views, self._transform = split, views, transform
        self._seed, self._view = seed, view
        if views is not None and views.mixes:
            unlabelled = ~split.known
            self._by_label, self._unlabelled = (~unlabelled).long().argsort(stable=True), unlabelled.sum()

    def __getitem__(self, indices: Tensor) -> Batch:
        return self._batch(self._read(indices))

    def chunked(self, parts: tuple[Tensor, ...]) -> Iterator[Batch]:
        """Read several batches at once and hand them out one by one."""
        at_once = self._batches_at_once(parts)
        for first in range(0, len(parts), at_once):
            group = parts[first : first + at_once]
            sizes = [len(part) for part in group]
            chunk = {name: tensor.split(sizes) for name, tensor in self._read(torch.cat(group)).items()}
            for number in range(len(group)):
                yield self._batch({name: parts[number] for name, parts in chunk.items()})

    def _batch(self, fields: dict[str, Any]) -> Batch:
        changed = self._views is not None or self._transform is not None
        texts = isinstance(self._split.inputs, Texts | Pairs)
        inputs = fields["inputs"] if texts else _in_unit_range(fields["inputs"])
        return Batch(**fields | {"inputs": inputs}, view=self._view if changed else None)

    def _batches_at_once(self, parts: tuple[Tensor, ...]) -> int:
        inputs = self._split.inputs
        if not parts or not isinstance(inputs, Tensor):
            return 1
        return max(1, _CHUNK_BYTES // max(1, len(parts[0]) * inputs[0].nbytes))

    def _read(self, indices: Tensor) -> dict[str, Any]:
        """The fields of a batch; inputs that are held as bytes stay bytes if that is possible."""
        targets, ids = self._split.targets.index_select(0, indices), self._split.ids.index_select(0, indices)
        inputs = self._shown(indices, ids)
        if isinstance(self._split.inputs, Pairs):
            mask = self._split.inputs.mask(indices)
            return {"inputs": inputs, "targets": targets[:, : mask.shape[1]], "mask": mask, "ids": ids}
        if self._views is None or not self._views.mixes:
            return {"inputs": inputs, "targets": targets, "ids": ids}
        partners = self._partners(targets, ids)
        others = self._shown(partners, self._split.ids.index_select(0, partners))
        mixed, shares = self._views.mix(inputs, others, ids, view=self._view, seed=self._seed)
        return {
            "inputs": mixed.div_(255) if mixed.is_floating_point() and not inputs.is_floating_point() else mixed,
            "targets": unknown(targets),
            "ids": ids,
            "label_pairs": torch.stack([targets, self._split.targets.index_select(0, partners)], -1),
            "shares": shares.reshape(-1, *[1] * (targets.ndim - 1)).expand_as(targets),
        }

    def _shown(self, indices: Tensor, ids: Tensor) -> Any:
        """Some samples as they look in this epoch's view, each for itself."""
        inputs = self._split.gather(indices)
        if self._transform is not None:
            inputs = _transformed(inputs, ids, self._transform, (self._seed, self._view, _TRANSFORM))
        if self._views is not None:
            inputs = self._views.apply(inputs, ids, view=self._view, seed=self._seed)
        return inputs

    def _partners(self, targets: Tensor, ids: Tensor) -> Tensor:
        """For each sample the index of the one it is mixed with, out of those that are labelled, or not, like it."""
        assert self._views is not None
        counts = torch.stack([self._unlabelled, len(self._by_label) - self._unlabelled])
        labelled = known(targets).reshape(len(targets), -1).any(1).long()
        drawn = self._views.partners(ids, among=counts[labelled], view=self._view, seed=self._seed)
        return self._by_label.index_select(0, labelled * self._unlabelled + drawn)


def _in_unit_range(inputs: Tensor) -> Tensor:
    """Bytes of images as floats; numbers and tokens stay what they are."""
    return inputs.float().div_(255) if inputs.dtype == torch.uint8 else inputs  # in one go is much slower


def _transformed(inputs: Tensor, ids: Tensor, transform: Transform, key: tuple[int, ...]) -> Tensor:
    """Run a transform on each sample with its own seed; the global generator is left as it was."""
    if not len(inputs):
        return inputs
    results = []
    with torch.random.fork_rng(devices=[]):
        for image, sample in zip(inputs, ids.tolist(), strict=True):
            torch.default_generator.manual_seed(folded(*key, sample) >> 1)
            results.append(transform(image))
    return torch.stack(results)


def _in_workers(read: _Reader, parts: tuple[Tensor, ...], workers: int) -> Iterator[Batch]:
    generator = torch.Generator()  # the loader would draw a seed from the global one otherwise
    return iter(DataLoader(read, batch_size=None, sampler=parts, num_workers=workers, generator=generator))


def _check(split: Split, batch_size: int, views: Views | None, drop_last: bool, rank: int, world: int) -> None:
    if batch_size < 1 or not 0 <= rank < world:
        raise InputError(
            f"batch_size={batch_size}, rank={rank}, world={world}; expected at least one sample per batch and "
            "0 ≤ rank < world"
        )
    if not len(split):
        raise InputError(f"split {split.name!r} is empty; expected at least one sample")
    if drop_last and len(split) < batch_size:
        raise InputError(
            f"split {split.name!r} has {len(split):,} samples, fewer than one batch of {batch_size}, and the last "
            "batch is dropped if it is not full: nothing is left. Choose a smaller batch_size"
        )
    if views is None or not views.changes:
        return
    if views.mixes and split.targets.is_floating_point():
        raise InputError(
            f"`views` mix samples and their labels ({views.describe()}), and split {split.name!r} has numbers, which "
            "are not mixed; leave `mixup` and `cutmix` out"
        )
    if isinstance(split.inputs, Texts) if views.of_texts else split.images:
        return
    what = "texts" if views.of_texts else "images"
    samples = "are texts" if isinstance(split.inputs, Texts) else f"have shape {split.shape}"
    raise InputError(f"`views` change {what} ({views.describe()}); the samples of split {split.name!r} {samples}")
