"""The columns of a table of answers: a csv or parquet file, every cell of which must be there."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.errors import InputError, listing, nearest
from understudy.files import neighbours

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True, eq=False)
class AnswerColumns:
    """What is in a file.

    Attributes:
        path: of the file.
        table: its columns.
    """

    path: Path
    table: pyarrow.Table

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        return self.table.column_names

    def values(self, name: str) -> list[Any]:
        """The cells of a column.

        Raises:
            InputError: when there is no such column, or a cell is empty.
        """
        return self._column(name).to_pylist()

    def numbers(self, name: str) -> np.ndarray:
        """The cells of a column of numbers, float64 (rows,).

        Raises:
            InputError: naming the first rows with anything but a finite number.
        """
        import pyarrow

        column = self._column(name)
        try:
            values = column.cast(pyarrow.float64()).to_numpy()
        except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
            raise InputError(f"{self.path}: column {name!r} holds {column.type}, expected numbers ({error})") from error
        values = values.copy()  # that of Arrow cannot be written to
        if (broken := ~np.isfinite(values)).any():
            raise InputError(
                f"{self.path}: column {name!r} holds {values[broken][0]} in {rows(broken)}; expected finite numbers"
            )
        return values

    def lists(self, name: str) -> list[list[Any]]:
        """The cells of a column of lists; those that are text as JSON.

        Raises:
            InputError: naming the first row without a list.
        """
        cells = self.values(name)
        for number, cell in enumerate(cells):
            if isinstance(cell, str):
                with contextlib.suppress(json.JSONDecodeError):
                    cells[number] = json.loads(cell)
            if not isinstance(cells[number], list) or None in cells[number]:
                raise InputError(
                    f"{self.path}: column {name!r} holds {cell!r} in row {number}; expected a list, in csv as JSON "
                    "such as [3, 5]"
                )
        return cells

    def _column(self, name: str) -> pyarrow.ChunkedArray:
        if name not in self.names:
            raise InputError(
                f"{self.path} has no column {name!r}{nearest(name, self.names)}; the columns are {listing(self.names)}"
            )
        column = self.table.column(name)
        if column.null_count:
            raise InputError(
                f"{self.path}: column {name!r} is empty in {rows(column.is_null().to_numpy())}; expected an answer in "
                "every row. Leave samples without one out of the table"
            )
        return column


def open_answers(path: Path) -> AnswerColumns:
    """Read a file.

    Raises:
        InputError: when it does not exist, cannot be read, is empty, or has two columns of one name.
    """
    import pyarrow
    from pyarrow import csv, parquet

    if not path.is_file():
        raise InputError(f"there is no file {path}{nearest(path.name, neighbours(path))}")
    readers = {".csv": csv.read_csv, ".parquet": parquet.read_table}
    if path.suffix.lower() not in readers:
        raise InputError(f"{path} has an ending that is not known; expected {' or '.join(readers)}")
    try:
        table = readers[path.suffix.lower()](path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not table.num_rows:
        raise InputError(f"{path} has no rows; expected one for each sample")
    double = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if double:
        raise InputError(f"{path} has several columns {listing(double)}; expected each name once")
    return AnswerColumns(path, table)


def rows(wrong: np.ndarray) -> str:
    """Which rows are marked, by number from 0, the first of them: ``"rows 0, 2, 4, 6 and 3 more"``.

    Args:
        wrong: bool (rows,).
    """
    numbers = np.flatnonzero(wrong)
    shown = ", ".join(map(str, numbers[:4].tolist()))
    if len(numbers) == 1:
        return f"row {shown}"
    return f"rows {shown}" + (f" and {len(numbers) - 4:,} more" if len(numbers) > 4 else "")
