"""From a column of lists, or from a column of 0 and 1 for each label, to the names of labels and targets."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from understudy.batch import IGNORE_INDEX
from understudy.errors import InputError, listing, nearest

_MARKS = (";", "|", ",")
"""What names in a text are separated by: the first of these that a column has."""

Names = list[str] | list[int]


@dataclass(frozen=True, eq=False, slots=True)
class LabelSets:
    """The labels of one split, any number for each sample, as the source has them.

    Attributes:
        split: name of the split, for messages.
        values: for each sample the names or the indices of its labels, None where they are not known; or int64
            (N, labels) of 0, 1, and ``IGNORE_INDEX`` where one is not known.
        names: of the labels, in order; None where the source does not say.
    """

    split: str
    values: list[Names | None] | np.ndarray
    names: tuple[str, ...] | None = None

    @staticmethod
    def of_array(split: str, values: np.ndarray, names: tuple[str, ...] | None = None) -> LabelSets:
        """Labels from a table of 0 and 1, (N, labels), with NaN where one is not known.

        Raises:
            InputError: for another shape, or naming the first sample with another number.
        """
        if values.ndim != 2 or values.dtype.kind not in "biuf":
            raise InputError(
                f"labels of split {split!r} have the shape {values.shape} and type {values.dtype}; expected 0 and 1 "
                "for each sample and label, (N, labels)"
            )
        if values.dtype.kind == "f":
            values = np.where(np.isnan(values), IGNORE_INDEX, values)
        wrong = np.argwhere((values != 0) & (values != 1) & (values != IGNORE_INDEX))
        if len(wrong):
            row, column = wrong[0].tolist()
            label = repr(names[column]) if names is not None and column < len(names) else column
            raise InputError(
                f"label {label} of sample {row} in split {split!r} is {values[row, column]:g}; expected 0 or 1, or "
                "nothing where it is not known"
            )
        return LabelSets(split, values.astype(np.int64), names)

    @staticmethod
    def of_cells(split: str, cells: Sequence[Any], names: tuple[str, ...] | None = None) -> LabelSets:
        """Labels from cells that are lists, or texts: ``["a", "b"]`` as JSON, or names between marks, ``a;b``.

        Args:
            split: its name.
            cells: lists of names or of indices; lists of 0 and 1 for each label; texts; None where nothing is known.
            names: of the labels, in order, where the source says them.

        Raises:
            InputError: naming the first sample whose cell is none of these.
        """
        texts = [cell for cell in cells if isinstance(cell, str)]
        mark = next((mark for mark in _MARKS if any(mark in text for text in texts if not _listed(text))), _MARKS[0])
        read = [_read(cell, mark) for cell in cells]
        for row, (cell, found) in enumerate(zip(cells, read, strict=True)):
            if found is not None and not _alike(found):
                raise InputError(
                    f"sample {row} of split {split!r} has the labels {cell!r}; expected a list of names or indices, "
                    "in csv as JSON or with a mark between them, such as a;b"
                )
        if _yes_or_no(read):
            width = len(next(found for found in read if found is not None))
            rows = [[IGNORE_INDEX] * width if found is None else found for found in read]
            return LabelSets.of_array(split, np.asarray(rows, dtype=np.float64), names)
        return LabelSets(split, read, names)


def label_names(splits: Sequence[LabelSets], expected: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names of the labels, in order, the same for all splits.

    Args:
        splits: the labels of each split.
        expected: the names that the user gave, if any.

    Raises:
        InputError: when splits disagree, the user's names are not the source's, or there are fewer than two labels.
    """
    first = splits[0]
    for other in splits[1:]:
        if other.names != first.names:
            raise InputError(
                f"splits {first.split!r} and {other.split!r} do not have the same labels in the same order: "
                f"{listing(list(first.names or ()))} and {listing(list(other.names or ()))}"
            )
    names = first.names if first.names is not None else _found(splits, expected)
    if expected is not None and expected != names:
        if sorted(expected) != sorted(names):
            raise InputError(
                f"`classes` is not what the data has: it names {listing(list(expected))}, the data "
                f"{listing(list(names))}"
            )
        raise InputError(f"`classes` has another order than the data, which has {listing(list(names), most=50)}")
    if len(names) < 2:
        raise InputError(
            f"there are {len(names)} labels ({listing(list(names)) or 'none'}), expected two or more; a single yes or "
            "no is one label of two classes, for task: classification or text_classification"
        )
    return names


def label_targets(labels: LabelSets, names: tuple[str, ...]) -> Tensor:
    """For each sample and label 0, 1, or ``IGNORE_INDEX`` where it is not known: int64 (N, labels).

    Raises:
        InputError: naming the first samples with a label that is none of them.
    """
    if isinstance(labels.values, np.ndarray):
        if labels.values.shape[1] != len(names):
            raise InputError(
                f"split {labels.split!r} has {labels.values.shape[1]} labels for each sample, expected {len(names)}: "
                f"{listing(list(names))}"
            )
        return torch.from_numpy(labels.values)
    places = {name: place for place, name in enumerate(names)}
    made = torch.zeros(len(labels.values), len(names), dtype=torch.int64)
    for row, found in enumerate(labels.values):
        if found is None:
            made[row] = IGNORE_INDEX
            continue
        for label in found:
            place = places.get(label) if isinstance(label, str) else label
            if place is None and isinstance(label, str) and label.isdecimal():
                place = int(label)
            if place is None or not 0 <= place < len(names):
                raise InputError(
                    f"sample {row} of split {labels.split!r} has the label {label!r}{nearest(str(label), names)}; "
                    f"expected some of {listing(list(names))}"
                )
            made[row, place] = 1
    return made


def _found(splits: Sequence[LabelSets], expected: tuple[str, ...] | None) -> tuple[str, ...]:
    """The names that the data's own labels give, where the user has said none."""
    if expected is not None:
        return expected
    widths = {each.values.shape[1] for each in splits if isinstance(each.values, np.ndarray)}
    if widths:
        return tuple(map(str, range(max(widths))))
    seen = {label for each in splits for found in each.values if found is not None for label in found}
    if not seen:
        raise InputError("no sample has a label; expected labels in at least one split")
    if any(isinstance(label, str) and not label.isdecimal() for label in seen):
        return tuple(sorted(map(str, seen)))
    numbers = {int(label) for label in seen}
    if absent := sorted(set(range(max(numbers) + 1)) - numbers):
        raise InputError(
            f"labels go up to {max(numbers)} but no sample has {listing([str(label) for label in absent])}; name all "
            "labels with `classes: [...]`"
        )
    return tuple(map(str, range(max(numbers) + 1)))


def _listed(text: str) -> bool:
    return text.lstrip().startswith(("[", "(", "{"))


def _read(cell: Any, mark: str) -> Any:
    """The names or indices in a cell; None where it holds nothing, and the cell itself where it cannot be read."""
    if not isinstance(cell, str):
        return None if cell is None else list(cell) if isinstance(cell, list | tuple | np.ndarray) else cell
    if not _listed(cell):
        return [name for part in cell.split(mark) if (name := part.strip())]
    try:
        return json.loads(cell)
    except json.JSONDecodeError:
        pass
    try:
        found = ast.literal_eval(cell)  # as Python writes a list
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return cell
    return sorted(found) if isinstance(found, set) else list(found) if isinstance(found, list | tuple) else cell


def _alike(found: Any) -> bool:
    """Whether this is a list of names, of whole numbers, or of 0 and 1 as floats."""
    if not isinstance(found, list):
        return False
    numbers = all(
        isinstance(label, int | np.integer) or (isinstance(label, float) and label in (0, 1)) for label in found
    )
    return numbers or all(isinstance(label, str) for label in found)


def _yes_or_no(read: Sequence[Any]) -> bool:
    """Whether lists hold 0 or 1 for each label, and not the indices of labels: those are there once."""
    lists = [found for found in read if found is not None]
    if (
        not lists
        or len({len(found) for found in lists}) != 1
        or any(label not in (0, 1) for each in lists for label in each)
    ):
        return False
    return any(isinstance(each, float) for each in lists[0]) or any(len(set(found)) < len(found) for found in lists)
