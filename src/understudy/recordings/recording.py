"""Reading a recording: only the rows of a batch are touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from understudy.errors import InputError, listing
from understudy.recordings.again import how_to_record
from understudy.recordings.manifest import Part, read_manifest
from understudy.recordings.samples import read_samples
from understudy.recordings.shards import Shard, find_shards
from understudy.recordings.storage import KEPT

_IN_MEMORY = 64 * 1024**2
"""A view that takes fewer bytes is read once and kept: many small reads cost more than they save."""

_Form = tuple[torch.dtype, torch.Size]
"""Type and shape of a tensor's row."""


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
                f"the recording in {self.folder} is not whole: {holes[0]}{more} are missing. Record "
                f"again, {how_to_record(self.folder)}: only what is missing is recorded"
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
                    "views (a Loader of the same `views`, `view_seed` and `cycle`), or record more with --extend"
                )
            keep, classes = self.manifest.keep, len(self.manifest.classes)
            found = self._views[view] = _View(shards, keep.names(tuple(keep.layers)), keep.widths(classes), classes)
        return found


class _View:
    """The rows of one view."""

    def __init__(self, shards: list[Shard], names: Sequence[str], widths: Mapping[str, int], classes: int) -> None:
        self._shards, self._names, self._widths, self._classes = shards, names, widths, classes
        self._known: set[int] = set()
        self._forms: dict[str, _Form] = {}
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
        for number in shard.unique().tolist() or [0]:
            tensors, where = self._tensors(number), (shard == number).nonzero().flatten()
            local = positions.index_select(0, where) - self._firsts[number]
            for name in names:
                if name in tensors:
                    picked = tensors[name].index_select(0, local)
                    whole = found.setdefault(name, picked.new_empty(len(positions), *picked.shape[1:]))
                    whole.index_copy_(0, where, picked)
        return found

    @cached_property
    def _joined(self) -> dict[str, Tensor]:
        all_of_them = [self._tensors(number) for number in range(len(self._shards))]
        return {name: torch.cat([tensors[name] for tensors in all_of_them]) for name in all_of_them[0]}

    def _tensors(self, number: int) -> Mapping[str, Tensor]:
        """Those of a shard; when it is first used it is compared with what the manifest says, and with the others."""
        shard = self._shards[number]
        if number not in self._known:
            forms = {name: (tensor.dtype, tensor.shape[1:]) for name, tensor in shard.tensors.items()}
            missing = [name for name in self._names if name not in forms]
            if missing:
                raise InputError(
                    f"{shard.path} has no tensor {listing(missing)}, which the manifest says is kept; it has "
                    f"{listing(list(forms))}"
                )
            for name, width in self._widths.items():
                if forms[name][1][-1:] != (width,):
                    raise InputError(
                        f"{shard.path} holds {name!r} as {_form(forms[name])}, expected {width} numbers in a row, as "
                        "the manifest says"
                    )
            _check_kept(shard, self._classes)
            first = self._forms = self._forms or forms
            if forms != first:
                name = next(name for name in forms | first if forms.get(name) != first.get(name))
                raise InputError(
                    f"{shard.path} differs from the other files of this view: it holds {name!r} as "
                    f"{_form(forms.get(name))}, expected {_form(first.get(name))}"
                )
            self._known.add(number)
        return shard.tensors


def _check_kept(shard: Shard, classes: int) -> None:
    kept = shard.tensors.get(KEPT)
    if kept is None or not kept.numel():
        return
    least, most = kept.aminmax()
    if int(least) < 0 or int(most) >= classes:
        wrong = int(least) if int(least) < 0 else int(most)
        raise InputError(
            f"{shard.path} keeps the logit of class {wrong}; the manifest names {classes}, so expected "
            f"0 to {classes - 1}"
        )


def _form(form: _Form | None) -> str:
    return f"{form[0]} {('rows', *form[1])}" if form is not None else "nothing"


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
