"""``understudy check``: find what is wrong with a recipe before anything is downloaded or trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.cli.failures import tell
from understudy.cli.output import AsJson, columns, write, write_json
from understudy.cli.run import Overrides, RecipeFile

if TYPE_CHECKING:
    from understudy.doctor import Finding
    from understudy.recipe.problems import Problem
    from understudy.recipe.schema import Recipe


def check_recipe(
    recipe: RecipeFile,
    overrides: Overrides = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Load the data, build the models, and let the doctor look at them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a recipe: keys, types, references, files. All problems at once, each with its line.

    Lists the code that the recipe names under python before any of it is imported; only --deep imports it.
    Exit code 2 when something is wrong.

    Example: [bold]understudy check recipe.yaml --deep[/bold]
    """
    from understudy.recipe.loading import load_recipe
    from understudy.recipe.problems import RecipeError

    try:
        loaded = load_recipe(recipe, overrides or [])
        if not as_json:
            write(_summary(recipe, loaded))
        findings = _deep(recipe, overrides or [], loaded) if deep else None
    except RecipeError as error:
        if as_json:
            write_json(_json(recipe, None, error.problems, None))
            raise typer.Exit(error.exit_code) from error
        raise
    if as_json:
        write_json(_json(recipe, loaded, (), findings))
    elif findings is not None:
        from understudy.doctor import render

        write(render(findings))
    if any(finding.severity == "error" for finding in findings or ()):
        raise typer.Exit(2)


def _deep(path: Path, overrides: list[str], recipe: Recipe) -> list[Finding]:
    from understudy.pipeline.check import deep_check
    from understudy.recipe.files import named_code
    from understudy.recipe.loading import load_and_join

    for key, target in named_code(recipe):
        tell(f"importing {target}, named by {key}")
    return deep_check(load_and_join(path, overrides))


def _summary(path: Path, recipe: Recipe) -> str:
    from understudy.recipe.files import named_code

    rows = [(stage.name, stage.kind, ", ".join(stage.needs)) for stage in recipe.stages]
    seeds = f"{len(recipe.seeds)} seed{'s' * (len(recipe.seeds) > 1)} ({', '.join(map(str, recipe.seeds))})"
    code = [f"  {target}  ({key})" for key, target in named_code(recipe)]
    lines = [
        f"{path} is a valid recipe: {recipe.name}, {recipe.task.kind}, {seeds}",
        "",
        columns(rows, headers=("stage", "kind", "reads")),
        "",
        *(["Code that it runs:", *code] if code else ["It runs no code of its own."]),
    ]
    return "\n".join(lines)


def _json(
    path: Path, recipe: Recipe | None, problems: tuple[Problem, ...], findings: list[Finding] | None
) -> dict[str, Any]:
    from understudy.recipe.files import named_code, named_files
    from understudy.recipe.problems import dotted

    code = named_code(recipe) if recipe else []
    files = named_files(recipe) if recipe else ()
    return {
        "schema": 1,
        "recipe": str(path),
        "valid": not problems,
        "problems": [
            {"place": problem.place, "key": dotted(problem.path), "message": problem.message} for problem in problems
        ],
        "name": recipe.name if recipe else None,
        "task": recipe.task.kind if recipe else None,
        "seeds": list(recipe.seeds) if recipe else [],
        "stages": [
            {"name": stage.name, "kind": stage.kind, "needs": list(stage.needs)}
            for stage in (recipe.stages if recipe else ())
        ],
        "code": [{"key": key, "target": target} for key, target in code],
        "files": [{"key": key, "path": file} for key, file in files],
        "findings": [finding.to_json() for finding in findings] if findings is not None else None,
    }
