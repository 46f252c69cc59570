"""Files that hold the answers for a run of samples in one view; the name of each tells what must be inside."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from understudy.errors import InputError, RunError
from understudy.files import file_digest, replacing

_PLAIN = "plain"
_PATTERN = re.compile(r"^rows-(\d+)-(\d+)-([0-9a-f]{16})\.safetensors$")
_DIGITS = 16


@final
@dataclass(frozen=True)
class Shard:
    """The answers for the samples in positions ``first`` to ``last``, exclusive.

    Attributes:
        path: of the file.
        view: number of the view; None for samples as they are.
        first: position of the first sample.
        last: position after the last one.
        digest: the beginning of the SHA-256 that the file must have.
    """

    path: Path
    view: int | None
    first: int
    last: int
    digest: str

    def verify(self) -> None:
        """Read the whole file and compare its digest with the one in its name.

        Raises:
            InputError: when the file is not what was written.
        """
        try:
            found = file_digest(self.path)[:_DIGITS]
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror}") from error
        if found != self.digest:
            raise InputError(
                f"{self.path} is damaged: its SHA-256 begins with {found}, its name says {self.digest}. Delete the "
                "file and record again: only what is missing is recorded"
            )

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """All tensors, mapped from the file: what is not looked at is not read. The file is verified first.

        Raises:
            InputError: when it is damaged, or holds another number of rows than its name says.
        """
        self.verify()
        try:
            with safe_open(self.path, framework="pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except SafetensorError as error:
            raise InputError(f"{self.path} is not a whole safetensors file ({error})") from error
        for name, tensor in found.items():
            if tensor.shape[:1] != (self.last - self.first,):
                raise InputError(
                    f"{self.path} holds {name!r} {tuple(tensor.shape)}, expected {self.last - self.first} rows as its "
                    "name says"
                )
        return found


def view_folder(folder: Path, view: int | None) -> Path:
    """Where the shards of a view lie."""
    return folder / (_PLAIN if view is None else f"view-{view:03d}")


def write_shard(folder: Path, view: int | None, first: int, tensors: Mapping[str, Tensor]) -> Shard:
    """Write the answers for a run of samples; the file is there when it is whole.

    Args:
        folder: of the recording.
        view: number of the view.
        first: position of the first sample.
        tensors: one row for each sample.

    Raises:
        RunError: when the disk does not take it.
    """
    last = first + len(next(iter(tensors.values())))
    place = view_folder(folder, view)
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    digest = hashlib.sha256(content).hexdigest()[:_DIGITS]
    path = place / f"rows-{first:09d}-{last:09d}-{digest}.safetensors"
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{place} cannot be made: {error.strerror}. What was recorded before is intact") from error
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return Shard(path, view, first, last, digest)


def find_shards(folder: Path, view: int | None) -> list[Shard]:
    """All shards of a view, in order.

    Raises:
        InputError: when two hold the same rows.
    """
    place = view_folder(folder, view)
    matches = [(path, _PATTERN.match(path.name)) for path in sorted(place.glob("rows-*.safetensors"))]
    shards = [Shard(path, view, int(match[1]), int(match[2]), match[3]) for path, match in matches if match is not None]
    for before, after in itertools.pairwise(shards):
        if after.first < before.last:
            raise InputError(
                f"{before.path.name} and {after.path.name} in {place} hold the same rows; delete the one that does not "
                "belong to this recording"
            )
    return shards
