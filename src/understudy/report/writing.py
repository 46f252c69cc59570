"""Writes a report into files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from understudy.errors import RunError
from understudy.report.building import build_report
from understudy.report.html import to_html
from understudy.report.markdown import to_markdown
from understudy.report.reading import read_run
from understudy.report.schema import Report


class ReportPaths(NamedTuple):
    """Where a report was written."""

    json: Path
    markdown: Path
    html: Path


def write_report(run_directory: str | Path, *, report: Report | None = None) -> ReportPaths:
    """Write ``report.json``, ``report.md`` and ``report.html``, each whole or not at all.

    Args:
        run_directory: the run to report, and the directory that the files go to.
        report: write this one instead (several runs side by side, say); the directory is made when missing.

    Raises:
        InputError: when the run cannot be read, see :func:`read_run`.
        RunError: when the files cannot be written; those that were there before are intact.
    """
    directory = Path(run_directory)
    if report is None:
        report = build_report([read_run(directory)])
    paths = ReportPaths(directory / "report.json", directory / "report.md", directory / "report.html")
    contents = (report.to_json() + "\n", to_markdown(report), to_html(report))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, content in zip(paths, contents, strict=True):
            _replace(path, content)
    except OSError as error:
        raise RunError(f"the report cannot be written to {directory}: {error.strerror or error}") from error
    return paths


def _replace(path: Path, content: str) -> None:
    """Put ``content`` in the place of a file; a reader sees the old one or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
