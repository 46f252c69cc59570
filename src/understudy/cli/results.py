"""The end of a run, or of several, on stdout."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from understudy.cli.output import write

if TYPE_CHECKING:
    from rich.console import RenderableType

WIDE = 160
"""Columns of the table where stdout is no terminal, which has no width of its own."""


def show_table(content: RenderableType) -> None:
    """Print what `rich` lays out, as wide as the terminal."""
    from rich.console import Console

    Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDE).print(content)


def show_results(*runs: Path, out: Path | None = None, as_json: bool) -> None:
    """Write the report's files and print its table, or its JSON.

    Args:
        runs: run directories.
        out: where the files go. When not given, a single run keeps its own, and of several none are written.
        as_json: print the report as JSON, as in ``report.json``.

    Raises:
        InputError: for a directory that is not a run.
        RunError: when the files cannot be written.
    """
    from understudy.report import build_report, read_run
    from understudy.report.writing import write_report

    report = build_report([read_run(run) for run in runs])
    place = runs[0] if out is None and len(runs) == 1 else out
    paths = write_report(place, report=report) if place is not None else None
    if as_json:
        write(report.to_json())
        return
    from understudy.report.terminal import table

    show_table(table(report))
    write(f"\nReport: {paths.html}" if paths else "\nFor one page of them all, name a directory for it with --out")
