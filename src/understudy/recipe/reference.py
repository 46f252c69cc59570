"""All that a recipe may say, as Markdown, made from the types themselves.

``python -m understudy.recipe.reference docs/recipe.md`` writes the page; a test keeps it in step.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from understudy.recipe.annotations import Model, field_annotation, item_of, models_within
from understudy.recipe.schema import Recipe
from understudy.recipe.wording import described_type

INTRODUCTION = """# Recipes

<!-- Made by `python -m understudy.recipe.reference docs/recipe.md`; do not edit. -->

A recipe is a YAML 1.2 file that says what a run does. `understudy init` writes one, `understudy check` finds
everything that is wrong with it, `understudy run` runs it. This page lists every key.

- A key that is not on this page is an error, and so is a text where a number belongs (`epochs: "5"`).
- YAML 1.2: `5e-2` is a number, `yes` and `on` are texts, true and false are `true` and `false`.
- Anchors (`&base`, `*base`, `<<: *base`) may be used. Tags, and with them any way to run code, may not; the only
  code a recipe can name is a model of `source: python`, and `understudy check` lists it before anything is imported.
- Relative paths are seen from the directory in which the command is given.
- `--set KEY=VALUE` replaces a value from the command line. Items of a list go by position, by `name`, or by `kind`:
  `--set stages.2.training.epochs=5`, `--set stages.student.objective.soft_targets.temperature=2`.
- `understudy recipes schema` prints a JSON schema with which an editor completes keys and underlines mistakes.
"""


def reference() -> str:
    """The page, ending in a newline."""
    models = list(dict.fromkeys(_reachable(Recipe)))
    anchors = {model: model.__name__.lower() for model in models}

    def linked(model: Model) -> str:
        return f"[{_title(model)}](#{anchors[model]})" if model in anchors else model.__name__

    sections = [_section(model, anchors[model], linked) for model in models]
    return "\n".join([INTRODUCTION, *sections])


def _section(model: Model, anchor: str, linked: Any) -> str:
    rows = [_row(name, field, linked) for name, field in model.model_fields.items()]
    lines = [
        f'<a id="{anchor}"></a>',
        "",
        f"## {_heading(model)}",
        "",
        _summary(model),
        "",
        "| key | value | default | meaning |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
    ]
    return "\n".join(lines)


def _row(name: str, field: FieldInfo, linked: Any) -> str:
    meaning = " ".join((field.description or "").replace("``", "`").split())
    if name in ("kind", "source") and not meaning:
        meaning = "What makes it this one."
    value = described_type(field_annotation(field), named=linked)
    cells = [f"`{name}`", value, _default(field), meaning]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    default = to_jsonable_python(field.get_default(call_default_factory=True, validated_data={}))
    return "" if default is None else f"`{json.dumps(default, ensure_ascii=False)}`"


def _title(model: Model) -> str:
    """How a type is called: by its kind or source where it is one of several."""
    for key in ("kind", "source"):
        field = model.model_fields.get(key)
        if field is not None and isinstance(field.default, str) and field.annotation is not str:
            return f"`{field.default}`"
    return model.__name__


def _heading(model: Model) -> str:
    title = _title(model)
    return title if title == model.__name__ else f"{title} ({model.__name__})"


def _summary(model: Model) -> str:
    first = inspect.cleandoc(model.__doc__ or "").split("\n\n")[0]
    return " ".join(first.replace("``", "`").split())


def _reachable(model: Model) -> Iterator[Model]:
    """A model and everything that can stand inside it, each before what is inside it."""
    yield model
    for field in model.model_fields.values():
        annotation = field_annotation(field)
        for inner in (*models_within(annotation), *models_within(item_of(annotation))):
            if inner is not model:
                yield from _reachable(inner)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
