"""``understudy methods``: every way of passing knowledge, from the classes themselves."""

from __future__ import annotations

import inspect
import json
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.cli.output import AsJson, columns, write, write_json
from understudy.errors import InputError, listing, nearest

if TYPE_CHECKING:
    from understudy.objective import Method


def show_methods(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A method, such as soft_targets; all when not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the loss terms that an objective can have, or explain one with its formula and settings.

    Example: [bold]understudy methods soft_targets[/bold]
    """
    from understudy.methods import METHODS

    described = [describe(method) for method in METHODS]
    chosen = described if name is None else [_named(name, described)]
    if as_json:
        write_json({"schema": 1, "methods": chosen})
    elif name is not None:
        write(_page(chosen[0]))
    else:
        rows = [(item["kind"], "yes" if item["needs_teacher"] else "no", item["summary"]) for item in chosen]
        write(columns(rows, headers=("kind", "teacher", "what it does")))
        write("\nMore on one of them: understudy methods NAME")


def describe(method: type[Method]) -> dict[str, Any]:
    """All that is known about a method, as JSON: its docstring, its paper, its settings."""
    text = inspect.cleandoc(method.__doc__ or "")
    return {
        "kind": method.model_fields["kind"].default,
        "class": method.__name__,
        "summary": " ".join(text.split("\n\n")[0].split()),
        "description": text,
        "paper": method.paper,
        "needs_teacher": method.needs_teacher,
        "fields": _fields(method),
    }


def _fields(method: type[Method]) -> list[dict[str, Any]]:
    from understudy.recipe.annotations import field_annotation
    from understudy.recipe.wording import described_type

    return [
        {
            "name": name,
            "type": described_type(field_annotation(field)),
            "required": field.is_required(),
            "default": None if field.is_required() else field.default,
            "description": " ".join((field.description or "").split()),
        }
        for name, field in method.model_fields.items()
        if name != "kind"
    ]


def _named(name: str, described: list[dict[str, Any]]) -> dict[str, Any]:
    wanted = re.sub(r"[\s_-]", "", name).lower()
    for item in described:
        if wanted in (item["kind"].replace("_", ""), item["class"].lower()):
            return item
    kinds = [item["kind"] for item in described]
    raise InputError(f"there is no method {name!r}{nearest(name.lower(), kinds) or f'; there are {listing(kinds)}'}")


def _page(item: dict[str, Any]) -> str:
    teacher = "needs a teacher" if item["needs_teacher"] else "needs no teacher"
    rows = [
        (
            field["name"],
            field["type"],
            "required" if field["required"] else json.dumps(field["default"]),
            field["description"],
        )
        for field in item["fields"]
    ]
    required = "".join(f", {field['name']}: …" for field in item["fields"] if field["required"])
    return "\n".join(
        [
            f"{item['kind']} ({item['class']}), {teacher}",
            "",
            item["description"],
            "",
            f"Paper: {item['paper']}",
            "",
            columns(rows, headers=("setting", "type", "default", "meaning")),
            "",
            f"In a recipe: {{kind: {item['kind']}, weight: 1.0{required}}}",
        ]
    )
