"""From columns of numbers to the targets of a regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from understudy.errors import InputError, listing


@dataclass(frozen=True, slots=True)
class Numbers:
    """The true numbers of one split.

    Attributes:
        split: name of the split, for messages.
        values: float32 (N, K), NaN where nobody knows them.
        names: of the K numbers; none where the data have no true answers at all.
    """

    split: str
    values: Tensor
    names: tuple[str, ...]

    @staticmethod
    def of_array(split: str, values: np.ndarray, name: str) -> Numbers:
        """Numbers from an array, (N,) or (N, K).

        Args:
            split: its name.
            values: NaN where nobody knows them.
            name: what they are called; of several the first is ``name[0]``.

        Raises:
            InputError: for anything but finite numbers and NaN, or a sample of which only some are known.
        """
        if values.dtype.kind not in "biuf" or values.ndim not in (1, 2) or (values.ndim == 2 and not values.shape[1]):
            raise InputError(
                f"{name} of split {split!r} has type {values.dtype} and shape {values.shape}; expected numbers, one or "
                "several for each sample. For names of classes there is the task `classification`"
            )
        rows = values.reshape(len(values), -1).astype(np.float32)
        if (broken := np.flatnonzero(np.isinf(rows).any(1))).size:
            raise InputError(f"{name} of sample {broken[0]} in split {split!r} is infinite; expected finite numbers")
        missing = np.isnan(rows)
        if (partly := np.flatnonzero(missing.any(1) & ~missing.all(1))).size:
            raise InputError(
                f"{len(partly):,} samples of split {split!r} have some of their {rows.shape[1]} numbers and not the "
                f"others: samples {listing([str(row) for row in partly])}; expected all or none of them"
            )
        count = rows.shape[1]
        names = (name,) if values.ndim == 1 else tuple(f"{name}[{index}]" for index in range(count))
        return Numbers(split, torch.from_numpy(rows), names)

    @staticmethod
    def absent(split: str, count: int) -> Numbers:
        """Of samples that have no true answers.

        Args:
            split: its name.
            count: how many samples there are.
        """
        return Numbers(split, torch.full((count, 1), float("nan")), ())

    @staticmethod
    def beside(columns: Sequence[Numbers]) -> Numbers:
        """Several columns of one split as the numbers of its samples, in this order.

        Raises:
            InputError: for a sample of which only some are known.
        """
        values = torch.cat([column.values for column in columns], 1)
        names = tuple(name for column in columns for name in column.names)
        together = Numbers.of_array(columns[0].split, values.numpy(), " and ".join(names))
        return Numbers(together.split, together.values, names)


def number_names(splits: Sequence[Numbers]) -> tuple[str, ...]:
    """The names of the numbers, the same for all splits.

    Raises:
        InputError: when splits disagree, or no sample has any.
    """
    first = splits[0]
    for other in splits[1:]:
        if other.names != first.names:
            raise InputError(
                f"splits {first.split!r} and {other.split!r} do not have the same numbers: {listing(first.names)} in "
                f"the first and {listing(other.names)} in the second"
            )
    if first.names and all(bool(split.values.isnan().all()) for split in splits):
        raise InputError(f"no sample has a number in {listing(first.names)}; expected some in at least one split")
    return first.names
