"""``understudy run``: do what a recipe says."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.failures import InterruptedRunError
from understudy.cli.output import AsJson
from understudy.cli.results import show_results
from understudy.errors import InputError, listing, nearest

if TYPE_CHECKING:
    from understudy.recipe.schema import Recipe

Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Replace a value of the recipe, such as stages.student.training.epochs=5. May be given several times.",
    ),
]
RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, in YAML or JSON.")]
RunFolder = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="The run directory; runs/NAME when not given.")
]
RUNS = Path("runs")
"""Where runs go that were given no directory."""


def run_recipe(
    recipe: RecipeFile,
    overrides: Overrides = None,
    out: RunFolder = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="STAGE", help="Run only this stage and what it needs. May be given several times."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a recipe: train, distill, measure, report.

    Stages that are done and whose inputs did not change are skipped; an interrupted run goes on from its last
    checkpoint when the same command is given again, and one that was run in part with --only, from there.

    Example: [bold]understudy run recipe.yaml --set stages.student.training.epochs=5 --out runs/try[/bold]
    """
    directory = run_file(recipe, overrides or [], out, only=partial(_named, names=only) if only else None)
    if is_main_process():
        show_results(directory, as_json=as_json)


def run_file(
    path: Path,
    overrides: list[str],
    out: Path | None,
    *,
    only: Callable[[Recipe], Collection[str]] | None = None,
    extend: bool = False,
) -> Path:
    """Run a recipe file and give its run directory.

    Args:
        path: the recipe.
        overrides: what the command line changes of it.
        out: the run directory; one of the recipe's name when not given.
        only: the stages to run, with those that they need; all when not given.
        extend: whether recordings that are there may grow.

    Raises:
        InputError: when the recipe or its data cannot work.
        RunError: when the run could not go on.
        InterruptedRunError: on Ctrl-C, with the word that the run can be resumed.
    """
    try:
        from understudy.engine.progress import progress_for
        from understudy.pipeline.run import run
        from understudy.recipe.loading import load_and_join

        recipe = load_and_join(path, overrides)
        directory = out if out is not None else RUNS / recipe.name
        return run(
            recipe,
            directory,
            progress=progress_for(sys.stderr),
            text=_as_run(path, overrides),
            only=only(recipe) if only is not None else None,
            extend=extend,
        )
    except KeyboardInterrupt as error:
        raise InterruptedRunError("\nInterrupted. The same command goes on from the last checkpoint.") from error


def _named(recipe: Recipe, names: list[str]) -> list[str]:
    """The same names.

    Raises:
        InputError: for one that no stage has.
    """
    known = [stage.name for stage in recipe.stages]
    for name in names:
        if name not in known:
            raise InputError(f"{recipe.name} has no stage {name!r}{nearest(name, known)}; it has {listing(known)}")
    return names


def leave_recipe(text: str, directory: Path) -> Path:
    """Leave a recipe that a verb has made as a file in the run's directory.

    Args:
        text: the recipe.
        directory: made when it does not exist.

    Raises:
        InputError: when it cannot be made.
    """
    from understudy.pipeline.directory import write_text

    path = directory / "recipe.yaml"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {directory} cannot be made: {error.strerror}") from error
    write_text(path, text)
    return path


def is_main_process() -> bool:
    """Whether this is the process that speaks, of those that `torchrun` has started."""
    return int(os.environ.get("RANK", "0")) == 0


def _as_run(path: Path, overrides: list[str]) -> str:
    """The recipe as its author wrote it, with what the command line changed on top."""
    changed = "".join(f"# changed by --set {override}\n" for override in overrides)
    return changed + path.read_text(encoding="utf-8-sig")
