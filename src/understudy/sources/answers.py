"""Answers that another program wrote down: pseudo-labels, probabilities or logits in a csv or parquet file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from understudy.errors import InputError, listing, nearest
from understudy.knowledge import Knowledge, TopClasses
from understudy.sources.answer_columns import AnswerColumns, open_answers, rows
from understudy.teachers.told import Told

Form = Literal["labels", "probabilities", "logits", "top"]

LABEL, CONFIDENCE, CLASSES, PROBABILITIES = "label", "confidence", "classes", "probabilities"
"""Names of the columns of hard labels, and of the likeliest classes."""
FLOOR = 1e-7
"""What a smaller probability counts as; 0 has no logarithm."""
ROUNDING = 0.01
"""How far from 1 the probabilities of a row may sum up."""


def read_answers(
    path: str | Path,
    classes: Sequence[str],
    *,
    id: str = "id",
    form: Form | None = None,
    order: Sequence[str] | None = None,
) -> Told:
    r"""Read a table with one row for each sample as a teacher.

    The column ``id`` holds the samples' ids: their positions in the data set, from 0. Beside it stand

    - ``label``, the name or index of a class, and maybe ``confidence``, the probability :math:`c` of it: all other
      classes share :math:`1 - c` equally. Without it :math:`c = 1`;
    - or one column for each class, called by its name or index, with probabilities or logits;
    - or ``classes`` and ``probabilities``, lists (in csv as JSON, ``[3, 5]``) of the likeliest classes of each sample
      and how likely they are: what they leave of 1 belongs to all others together, at temperature 1.

    Probabilities become logits by their logarithm, in which those below :data:`FLOOR` count as that. Numbers are
    indices of classes, unless all classes are called by numbers. Other columns are not read.

    Args:
        path: a .csv or .parquet file.
        classes: names of the data's classes, in the order of the logits.
        id: the column of ids.
        form: what the table holds; found by its columns when not given. Columns of classes hold probabilities if most
            rows are within [0, 1] and sum to 1; then all must.
        order: names of the classes in the order of the file's indices, where that is another one.

    Returns:
        A teacher that answers by the ids of the samples, in float32, in memory.

    Raises:
        InputError: naming columns or rows: for a file or a column that is not there, ids that are not whole or there
            twice, cells that are empty or not finite, classes that are not known, probabilities that are negative or
            do not sum to 1.
    """
    path = Path(path).expanduser()
    table = _Table(open_answers(path), tuple(classes), *_meanings(tuple(classes), order))
    ids = table.ids(id)
    form = form or table.form(id)
    answers = table.top() if form == "top" else Knowledge(table.labels() if form == "labels" else table.dense(form))
    return Told(ids, answers, name=str(path), about=table.described(form, answers))


@dataclass(frozen=True, eq=False)
class _Table:
    """A file of answers about some classes.

    Attributes:
        columns: what is in it.
        classes: names of the data's classes.
        by_name: what a name in the file means, as an index of ``classes``.
        by_index: what an index in the file means.
    """

    columns: AnswerColumns
    classes: tuple[str, ...]
    by_name: Mapping[str, int]
    by_index: Mapping[str, int]
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", self.columns.path)

    def ids(self, column: str) -> Tensor:
        values = self.columns.numbers(column)
        if (wrong := (values != np.round(values)) | (values < 0)).any():
            raise InputError(
                f"{self.path}: column {column!r} holds {values[wrong][0]:g} in {rows(wrong)}; expected ids, whole "
                "numbers from 0"
            )
        return torch.from_numpy(values.astype(np.int64))

    def form(self, id: str) -> Form:
        """What the table holds, by its columns."""
        names, found = self.columns.names, list[Form]()
        if LABEL in names:
            found.append("labels")
        if CLASSES in names and PROBABILITIES in names:
            found.append("top")
        if self._class_columns() is not None:
            found.append("probabilities" if _like_probabilities(self._dense()) else "logits")
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f"{self.path} holds {' and '.join(found)}; say with `form` which of them to read")
        raise InputError(
            f"{self.path} has neither a column {LABEL!r}, nor {CLASSES!r} and {PROBABILITIES!r}, nor one for each "
            f"class: {self._missing(id)}"
        )

    def labels(self) -> Tensor:
        """Logarithms of the probabilities that a label, and how sure it is, stand for."""
        chosen = torch.from_numpy(self._indices(LABEL, self.columns.values(LABEL)))
        sure = torch.ones(len(chosen), dtype=torch.float64)
        if CONFIDENCE in self.columns.names:
            given = self.columns.numbers(CONFIDENCE)
            if (wrong := (given < 0) | (given > 1)).any():
                raise InputError(
                    f"{self.path}: column {CONFIDENCE!r} holds {given[wrong][0]:g} in {rows(wrong)}; expected 0 to 1"
                )
            sure = torch.from_numpy(given)
        count = len(self.classes)
        others = ((1.0 - sure) / max(count - 1, 1)).unsqueeze(1).expand(-1, count)
        return _logarithm(others.scatter(1, chosen.unsqueeze(1), sure.unsqueeze(1)))

    def dense(self, form: Form) -> Tensor:
        """Logits of all classes."""
        if self._class_columns() is None:
            raise InputError(f"{self.path} does not have one column for each class: {self._missing()}")
        values = self._dense()
        if form == "logits":
            return torch.from_numpy(values.astype(np.float32))
        self._check_probabilities(values, whole=True)
        return _logarithm(torch.from_numpy(values))

    def top(self) -> Knowledge:
        """The likeliest classes, and what is left for the others."""
        named, told = (self.columns.lists(name) for name in (CLASSES, PROBABILITIES))
        lengths = {len(row) for row in (*named, *told)}
        if len(lengths) > 1 or 0 in lengths:
            raise InputError(
                f"{self.path}: the lists in {CLASSES!r} and {PROBABILITIES!r} have {min(lengths)} to {max(lengths)} "
                "entries; expected as many in every row, at least one"
            )
        (most,), count = lengths, len(self.classes)
        kept = self._indices(CLASSES, [name for row in named for name in row], per_row=most).reshape(-1, most)
        ordered = np.sort(kept, axis=1)
        if (twice := (ordered[:, 1:] == ordered[:, :-1]).any(1)).any():
            raise InputError(f"{self.path}: column {CLASSES!r} names a class twice in {rows(twice)}")
        likely = self._floats(PROBABILITIES, told)
        self._check_probabilities(likely, whole=most == count)
        logits, chosen = _logarithm(torch.from_numpy(likely)), torch.from_numpy(kept)
        if most == count:
            return Knowledge(logits=torch.empty_like(logits).scatter_(1, chosen, logits))
        tail = _logarithm(torch.from_numpy(1.0 - likely.sum(1)))
        return Knowledge(logits=logits, top=TopClasses(chosen, {1.0: tail}, count))

    def described(self, form: Form, answers: Knowledge) -> str:
        """What was read, and what was made of zeros, in one line."""
        what = {
            "labels": "labels",
            "probabilities": "probabilities",
            "logits": "logits",
            "top": "the likeliest classes",
        }
        sure = " with a confidence" if form == "labels" and CONFIDENCE in self.columns.names else ""
        floored = int((answers.logits <= float(np.log(FLOOR)) + 1e-6).sum()) if form in ("probabilities", "top") else 0
        zeros = f"; {floored:,} probabilities below {FLOOR:g} count as that" if floored else ""
        return f"{what[form]}{sure}, {len(self.classes)} classes{zeros}"

    def _floats(self, column: str, cells: list[list[Any]]) -> np.ndarray:
        try:
            values = np.asarray(cells, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.path}: column {column!r} holds something else than numbers ({error})") from error
        if (broken := ~np.isfinite(values.sum(axis=1))).any():
            raise InputError(f"{self.path}: column {column!r} holds NaN or infinity in {rows(broken)}")
        return values

    def _check_probabilities(self, values: np.ndarray, *, whole: bool) -> None:
        """Refuse negative ones, and rows that do not sum to 1, or are more than a part of it."""
        if (wrong := values.min(axis=1) < 0).any():
            raise InputError(
                f"{self.path}: {rows(wrong)} hold negative probabilities, such as {values.min():g}; expected 0 to 1. "
                "Scores before the softmax are read with `form: logits`"
            )
        totals = values.sum(axis=1)
        wrong = (np.abs(totals - 1) if whole else totals - 1) > ROUNDING
        if wrong.any():
            raise InputError(
                f"{self.path}: the probabilities in {rows(wrong)} sum to {totals[wrong][0]:.4g}; expected 1"
                f"{'' if whole else ' or less'}. Scores before the softmax are read with `form: logits`"
            )

    def _class_columns(self) -> list[str] | None:
        """For each class its column: all by name, or else all by index."""
        for meaning in (self.by_name, self.by_index):
            if meaning and all(name in self.columns.names for name in meaning):
                return sorted(meaning, key=lambda name: meaning[name])
        return None

    def _dense(self) -> np.ndarray:
        return np.stack([self.columns.numbers(name) for name in self._class_columns() or ()], axis=1)

    def _missing(self, id: str | None = None) -> str:
        names = [name for name in self.columns.names if name != id]
        missing = [name for name in self.by_name or self.by_index if name not in names]
        likely = nearest(missing[0], names)
        return f"there is none for {listing(missing, most=4)}{likely}. The columns are {listing(names)}"

    def _indices(self, column: str, cells: Sequence[Any], *, per_row: int = 1) -> np.ndarray:
        """Indices of the data's classes."""
        meant = {**self.by_index, **self.by_name}
        words = [str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell) for cell in cells]
        found = [meant.get(word) for word in words]
        if None in found:
            wrong = found.index(None)
            raise InputError(
                f"{self.path}: column {column!r} holds {cells[wrong]!r} in row {wrong // per_row}"
                f"{nearest(words[wrong], self.classes)}; expected the name of a class ({listing(self.classes)})"
                + (f", or its index, 0 to {len(self.classes) - 1}" if self.by_index else "")
            )
        return np.asarray(found, dtype=np.int64)


def _meanings(classes: tuple[str, ...], order: Sequence[str] | None) -> tuple[dict[str, int], dict[str, int]]:
    """What names and what indices mean, as indices of the classes."""
    by_name = {name: index for index, name in enumerate(classes)}
    if order is not None and sorted(order) != sorted(classes):
        unknown = [name for name in order if name not in by_name]
        wrong = f"{unknown[0]!r} is none of them{nearest(unknown[0], classes)}" if unknown else f"it has {len(order)}"
        raise InputError(f"`order` holds all classes, {listing(classes)}, in the order of the file; {wrong}")
    by_index = {str(index): by_name[name] for index, name in enumerate(order or classes)}
    if all(name.isdecimal() for name in classes):  # a number is either a name or an index
        return (by_name, {}) if order is None else ({}, by_index)
    return by_name, by_index


def _like_probabilities(values: np.ndarray) -> bool:
    inside = (values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= ROUNDING)
    return float(inside.mean()) > 0.5


def _logarithm(probabilities: Tensor) -> Tensor:
    return probabilities.clamp(min=FLOOR).log().float()
