"""The samples of a recording: their ids, and what they are labelled."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from understudy.batch import IGNORE_INDEX
from understudy.errors import InputError
from understudy.files import replacing

_DIGITS = 16


@final
@dataclass(frozen=True, eq=False)
class Samples:
    """Which samples a recording has, in the order of its rows.

    Attributes:
        ids: int64 (N,), each once.
        targets: int64 (N,), or (N, positions) where each has a label; ``IGNORE_INDEX`` where there is none. Of numbers
            float32 (N, numbers), NaN where nobody knows them.
    """

    ids: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def positions(self, ids: Tensor) -> Tensor:
        """Where some samples stand.

        Args:
            ids: int64 (n,).

        Raises:
            InputError: naming those that are not there.
        """
        places, strange = self.find(ids)
        if strange.any():
            shown = ", ".join(str(int(one)) for one in ids[strange][:4])
            raise InputError(
                f"{int(strange.sum())} of {len(ids)} samples of the batch are not in the recording (ids {shown}); "
                "record them too, or train on the samples that were recorded"
            )
        return places

    def double(self) -> Tensor:
        """The ids that are there more than once."""
        ordered, _ = self._index
        return ordered[1:][ordered[1:] == ordered[:-1]].unique()

    def find(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Where some samples stand, and which of them are not there, bool (n,); the position of those means nothing.

        Args:
            ids: int64 (n,).
        """
        ordered, order = self._index
        places = torch.searchsorted(ordered, ids).clamp_(max=len(ordered) - 1)
        strange = ordered.index_select(0, places) != ids
        return (places if order is None else order.index_select(0, places)), strange

    @cached_property
    def _index(self) -> tuple[Tensor, Tensor | None]:
        """The ids in order, and where each of them stands; None where they are in order themselves."""
        if bool((self.ids[1:] > self.ids[:-1]).all()):
            return self.ids, None
        ordered, order = self.ids.sort()
        return ordered, order


def in_words(target: Tensor) -> str:
    """What is true of a sample, or of a place in one: the index of a class, or numbers.

    Args:
        target: int64 (), or float (numbers,).
    """
    return ", ".join(f"{value:g}" for value in target.flatten().tolist())


def write_samples(folder: Path, samples: Samples) -> str:
    """Write them, and give the file's name.

    Raises:
        RunError: when the disk does not take it.
    """
    content = save({"ids": samples.ids.contiguous(), "targets": samples.targets.contiguous()})
    name = f"samples-{hashlib.sha256(content).hexdigest()[:_DIGITS]}.safetensors"
    with replacing(folder / name) as temporary:
        temporary.write_bytes(content)
    return name


def read_samples(path: Path, count: int) -> Samples:
    """Read them.

    Args:
        path: the file.
        count: how many there must be.

    Raises:
        InputError: when the file is missing or damaged, an id is there twice, or there are more or fewer.
    """
    try:
        content = path.read_bytes()
        tensors = load(content)
        ids = tensors["ids"]
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); expected a safetensors file with the samples' ids"
        ) from error
    if path.stem.partition("-")[2] != hashlib.sha256(content).hexdigest()[:_DIGITS]:
        raise InputError(
            f"{path} is damaged: its SHA-256 is not the one in its name. Record again, or take an intact copy"
        )
    targets = tensors.get("targets", torch.full_like(ids, IGNORE_INDEX))
    if ids.dtype != torch.int64 or ids.ndim != 1 or targets.shape[:1] != ids.shape or len(ids) != count:
        raise InputError(
            f"{path} holds ids {tuple(ids.shape)} {ids.dtype} and targets {tuple(targets.shape)}; expected int64, "
            f"({count},), as the manifest says"
        )
    samples = Samples(ids, targets if targets.is_floating_point() else targets.long())
    if len(double := samples.double()):
        times = int((ids == double[0]).sum())
        raise InputError(
            f"{path}: sample {int(double[0])} is there {times} times ({len(double)} ids are double); expected each id "
            "once"
        )
    return samples
