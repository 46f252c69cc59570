"""From labels as a source has them to the names and the targets of what is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from understudy.batch import IGNORE_INDEX
from understudy.errors import InputError, listing, nearest
from understudy.sources.numbers import Numbers, number_names


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of one split as the source has them.

    Attributes:
        split: name of the split, for messages.
        values: whole numbers or names; None where a sample has no label.
        names: what the source itself says about the names of classes 0, 1, …; None when it says nothing.
    """

    split: str
    values: np.ndarray | list[str | None]
    names: tuple[str, ...] | None = None

    @staticmethod
    def of_array(split: str, values: np.ndarray, names: tuple[str, ...] | None = None) -> Labels:
        """Labels from an array of numbers or strings, (N,) or (N, 1).

        Raises:
            InputError: for several labels per sample, or numbers that are not whole.
        """
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1:
            raise InputError(f"labels of split {split!r} have shape {values.shape}, expected one label per sample")
        if values.dtype.kind in "OSU":
            return Labels(split, [None if value is None else str(value) for value in values.tolist()], names)
        if values.dtype.kind == "f":
            values = np.where(np.isnan(values), IGNORE_INDEX, values)
            if (broken := np.flatnonzero(values != np.round(values))).size:
                raise InputError(
                    f"label {values[broken[0]]} of sample {broken[0]} in split {split!r} is not a whole number; "
                    "expected the index or the name of a class. For numbers there are the tasks `text_regression`, and "
                    "`regression` for other samples"
                )
        return Labels(split, values.astype(np.int64), names)


def output_names(splits: Sequence[Labels | Numbers], expected: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names of what is to be answered, in order, the same for all splits: of classes, or of numbers.

    Args:
        splits: the labels of each split.
        expected: the names of classes that the user gave, if any.

    Raises:
        InputError: when splits disagree, or the user's names are not the source's.
    """
    numbers = [split for split in splits if isinstance(split, Numbers)]
    if not numbers:
        return class_names([split for split in splits if isinstance(split, Labels)], expected)
    if expected is not None:
        raise InputError("`classes` names classes, and this task has none; leave it out")
    return number_names(numbers)


def class_names(splits: Sequence[Labels], expected: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names of the classes, in order, the same for all splits.

    Args:
        splits: the labels of each split.
        expected: the names that the user gave, if any.

    Raises:
        InputError: when splits disagree, or the user's names are not the source's.
    """
    first = splits[0]
    for other in splits[1:]:
        if other.names != first.names:
            raise InputError(
                f"splits {first.split!r} and {other.split!r} do not have the same classes in the same order: "
                f"{_difference(first.names or (), other.names or ())}"
            )
    if first.names is not None:
        if expected is not None and expected != first.names:
            raise InputError(f"`classes` is not what the data has: {_difference(expected, first.names)}")
        return first.names
    if isinstance(first.values, list):
        return _of_strings(splits, expected)
    return expected if expected is not None else _of_numbers(splits)


def targets(labels: Labels | Numbers, classes: tuple[str, ...]) -> Tensor:
    """Class indices, int64 (N,), ``IGNORE_INDEX`` where there is no label; or numbers, float32 (N, K).

    Raises:
        InputError: naming the first samples whose label is out of range.
    """
    if isinstance(labels, Numbers):
        return labels.values
    if isinstance(labels.values, list):
        index = {name: position for position, name in enumerate(classes)}
        return torch.tensor(
            [IGNORE_INDEX if value is None else index[value] for value in labels.values], dtype=torch.int64
        )
    values = torch.from_numpy(labels.values)
    outside = ((values < 0) | (values >= len(classes))) & (values != IGNORE_INDEX)
    if outside.any():
        rows = outside.nonzero().flatten().tolist()
        shown = ", ".join(f"sample {row} has {int(values[row])}" for row in rows[:3])
        raise InputError(
            f"{len(rows):,} labels of split {labels.split!r} are out of range ({shown}); "
            f"expected 0 to {len(classes) - 1}, or {IGNORE_INDEX} for a sample without a label"
        )
    return values


def _of_strings(splits: Sequence[Labels], expected: tuple[str, ...] | None) -> tuple[str, ...]:
    found = {str(value) for labels in splits for value in labels.values if value is not None}
    if expected is None:
        return tuple(sorted(found, key=int) if all(map(str.isdecimal, found)) else sorted(found))
    if unknown := sorted(found - set(expected)):
        raise InputError(
            f"`classes` is not what the data has: there are samples of {listing(unknown)}"
            f"{nearest(unknown[0], expected)}; expected only {listing(expected)}"
        )
    return expected


def _of_numbers(splits: Sequence[Labels]) -> tuple[str, ...]:
    """Numbers are their own names, if each from 0 to the largest is there; otherwise something is shifted."""
    found = np.unique(np.concatenate([np.asarray(labels.values) for labels in splits]))
    found = found[found >= 0]
    if not len(found):
        raise InputError("no sample has a label; expected labels in at least one split")
    largest = int(found[-1])
    if len(found) != largest + 1:
        absent = sorted(set(range(min(largest + 1, 10_000))) - set(found.tolist()))
        raise InputError(
            f"labels go up to {largest} but no sample has {listing([str(label) for label in absent])}; expected "
            f"numbers from 0 without a gap. If classes without a sample are meant, name all with `classes: [...]`"
        )
    return tuple(map(str, range(largest + 1)))


def _difference(left: tuple[str, ...], right: tuple[str, ...]) -> str:
    for position, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return f"class {position} is {one!r} in the first and {other!r} in the second"
    return f"{len(left)} names in the first and {len(right)} in the second"
