"""Reading a recording: only the rows of a batch are touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from understudy.errors import InputError
from understudy.recordings.manifest import Part, read_manifest
from understudy.recordings.samples import read_samples
from understudy.recordings.shards import Shard, find_shards

_IN_MEMORY = 64 * 1024**2
"""A view that takes fewer bytes is read once and kept: many small reads cost more than they save."""


@dataclass(frozen=True)
class Hole:
    """Rows that are not recorded.

    Attributes:
        part: of which part of the samples.
        view: number of the view; None for samples as they are.
        first: position of the first sample.
        last: position after the last one.
    """

    part: Part
    view: int | None
    first: int
    last: int

    def __str__(self) -> str:
        where = "samples as they are" if self.view is None else f"view {self.view}"
        return f"rows {self.first} to {self.last} of {where} ({self.part.name})"


@final
class Recording:
    """What a teacher answered, on disk.

    Args:
        folder: where it lies.

    Raises:
        InputError: when it is no recording, or its manifest or samples are damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        self.samples = read_samples(self.folder / self.manifest.samples, self.manifest.count)
        self._views: dict[int | None, _View] = {}

    @property
    def views(self) -> tuple[int | None, ...]:
        """The numbers of all views; None for samples as they are."""
        return tuple(dict.fromkeys(view for part in self.manifest.parts for view in part.shown))

    def shards(self) -> list[Shard]:
        """All files with answers."""
        return [shard for view in self.views for shard in find_shards(self.folder, view)]

    def holes(self) -> list[Hole]:
        """What is not recorded yet; nothing for a whole recording."""
        return [
            Hole(part, view, first, last)
            for part in self.manifest.parts
            for view in part.shown
            for first, last in _holes(find_shards(self.folder, view), part)
        ]

    def check_whole(self) -> None:
        """Refuse a recording that is not finished.

        Raises:
            InputError: naming what is missing.
        """
        holes = self.holes()
        if holes:
            more = f" and {len(holes) - 1} more" if len(holes) > 1 else ""
            raise InputError(
                f"the recording in {self.folder} is not whole: {holes[0]}{more} are missing. Record again: only what "
                "is missing is recorded"
            )

    def rows(self, ids: Tensor, view: int | None, names: Sequence[str]) -> dict[str, Tensor]:
        """Some tensors for some samples.

        Args:
            ids: int64 (n,), on the CPU.
            view: number of the view; None for samples as they are.
            names: of the tensors; those that the recording does not have are left out.

        Raises:
            InputError: for a sample or a view that is not there, or a damaged file.
        """
        return self._view(view).rows(self.samples.positions(ids), names)

    def _view(self, view: int | None) -> _View:
        found = self._views.get(view)
        if found is None:
            shards = find_shards(self.folder, view)
            if not shards:
                shown = "as they are" if view is None else f"in view {view}"
                known = ", ".join("as they are" if each is None else str(each) for each in self.views)
                raise InputError(
                    f"the recording in {self.folder} has no samples {shown}; its views are: {known}. Train on those "
                    "views, or record more with --extend"
                )
            found = self._views[view] = _View(shards)
        return found


class _View:
    """The rows of one view."""

    def __init__(self, shards: list[Shard]) -> None:
        self._shards = shards
        self._firsts = torch.tensor([shard.first for shard in shards])
        self._lasts = torch.tensor([shard.last for shard in shards])
        gapless = bool((self._firsts[1:] == self._lasts[:-1]).all())
        self._small = gapless and sum(shard.path.stat().st_size for shard in shards) <= _IN_MEMORY

    def rows(self, positions: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Some tensors for the samples in some positions."""
        shard = torch.searchsorted(self._firsts, positions, right=True) - 1
        outside = (shard < 0) | (positions >= self._lasts[shard.clamp(min=0)])
        if outside.any():
            raise InputError(
                f"{int(outside.sum())} of {len(positions)} samples of the batch were not recorded in this view of "
                f"{self._shards[0].path.parent}"
            )
        if self._small:
            local = positions - self._firsts[0]
            return {name: self._joined[name].index_select(0, local) for name in names if name in self._joined}
        found: dict[str, Tensor] = {}
        for number in shard.unique().tolist():
            tensors, where = self._shards[number].tensors, (shard == number).nonzero().flatten()
            local = positions.index_select(0, where) - self._firsts[number]
            for name in names:
                if name in tensors:
                    picked = tensors[name].index_select(0, local)
                    whole = found.setdefault(name, picked.new_empty(len(positions), *picked.shape[1:]))
                    whole.index_copy_(0, where, picked)
        return found

    @cached_property
    def _joined(self) -> dict[str, Tensor]:
        first = self._shards[0].tensors
        return {name: torch.cat([shard.tensors[name] for shard in self._shards]) for name in first}


def _holes(shards: list[Shard], part: Part) -> list[tuple[int, int]]:
    """The runs of a part's positions that no shard holds."""
    found, reached = [], part.first
    for shard in shards:
        if shard.last <= part.first or shard.first >= part.last:
            continue
        if shard.first > reached:
            found.append((reached, shard.first))
        reached = max(reached, shard.last)
    return [*found, (reached, part.last)] if reached < part.last else found
