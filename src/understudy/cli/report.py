"""``understudy report``: what runs have shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from understudy.cli.output import AsJson
from understudy.cli.results import show_results


def show_report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Run directories; several go side by side.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where to write the report; the run itself for a single one."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Report a run, or several side by side: table on stdout, Markdown, HTML and JSON in files.

    Example: [bold]understudy report runs/demo runs/try --out comparison[/bold]
    """
    show_results(*runs, out=out, as_json=as_json)
