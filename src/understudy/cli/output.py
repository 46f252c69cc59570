"""Results on stdout: JSON for programs, columns for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Write the result as JSON.")]


def write(text: str) -> None:
    """Write a part of the result."""
    print(text)


def write_json(value: object) -> None:
    """Write the whole result as one JSON value."""
    write(json.dumps(value, indent=1, ensure_ascii=False))


def columns(rows: Sequence[Sequence[object]], *, headers: Sequence[str], right: Sequence[int] = ()) -> str:
    """Lines of a table with a space of two between its columns.

    Args:
        rows: the cells.
        headers: one for each column.
        right: positions of the columns of numbers, which end at the same place.
    """
    cells = [list(map(str, row)) for row in (headers, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    aligned = [
        [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in cells
    ]
    return "\n".join("  ".join(row).rstrip() for row in aligned)
