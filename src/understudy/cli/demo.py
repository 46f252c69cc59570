"""``understudy demo``: the whole way once, on small real images, with nothing to download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from understudy.cli.output import AsJson
from understudy.cli.results import show_results
from understudy.cli.run import RUNS, is_main_process, run_file


def run_demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The run directory.")] = RUNS / "demo",
    as_json: AsJson = False,
) -> None:
    """Train a teacher, a student and the control on scikit-learn's digits, and report what the teacher was worth.

    Takes about a minute on two cores and downloads nothing.

    Example: [bold]understudy demo --out runs/demo[/bold]
    """
    from understudy.recipe.shipped import shipped_recipe

    directory = run_file(shipped_recipe("demo").path, [], out)
    if is_main_process():
        show_results(directory, as_json=as_json)
