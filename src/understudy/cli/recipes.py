"""``understudy recipes``: those that come with Understudy, and what a recipe may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from understudy.cli.output import AsJson, columns, write, write_json
from understudy.cli.verbs import group, paragraphs
from understudy.errors import InputError

app = group("List and copy the recipes that come with Understudy, and show what a recipe may say.")


def list_recipes(as_json: AsJson = False) -> None:
    """List the recipes that come with Understudy.

    Example: [bold]understudy recipes list[/bold]
    """
    from understudy.recipe.shipped import shipped_recipes

    found = list(shipped_recipes().values())
    if as_json:
        recipes = [{"name": item.name, "description": item.description, "path": str(item.path)} for item in found]
        write_json({"schema": 1, "recipes": recipes})
    elif found:
        write(columns([(item.name, item.description) for item in found], headers=("name", "what it does")))
        write("\nCopy one with: understudy recipes copy NAME")
    else:
        write("No recipes came with this installation. Write one with: understudy init")


def copy_recipe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of those that `understudy recipes list` shows.")],
    target: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where to; NAME.yaml here when not given.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Copy a recipe, to change it.

    Example: [bold]understudy recipes copy demo mine.yaml[/bold]
    """
    from understudy.recipe.shipped import shipped_recipe

    recipe = shipped_recipe(name)
    file = target if target is not None else Path(recipe.path.name)
    if file.is_dir():
        file = file / recipe.path.name
    save(file, recipe.path.read_text(encoding="utf-8"), force=force)
    write(str(file))


def print_schema() -> None:
    """Print the JSON schema of recipes, for editors.

    Save it, and name it in the first line of a recipe, "# yaml-language-server: $schema=recipe.schema.json", to
    have keys completed and mistakes underlined while typing.

    Example: [bold]understudy recipes schema > recipe.schema.json[/bold]
    """
    from understudy.recipe.schema import Recipe

    write_json(Recipe.model_json_schema())


def print_reference() -> None:
    """Print all that a recipe may say, as Markdown.

    Example: [bold]understudy recipes reference > recipe.md[/bold]
    """
    from understudy.recipe.reference import reference

    write(reference().rstrip("\n"))


for name, verb in {
    "list": list_recipes,
    "copy": copy_recipe,
    "schema": print_schema,
    "reference": print_reference,
}.items():
    app.command(name, help=paragraphs(verb.__doc__))(verb)


def save(file: Path, text: str, *, force: bool) -> None:
    """Write a new file.

    Raises:
        InputError: when it is there already and ``force`` is off, or cannot be written.
    """
    if file.exists() and not force:
        raise InputError(f"{file} is there already; choose another name, or replace it with --force")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}") from error
