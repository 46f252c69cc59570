"""From a file to a recipe, or to all that is wrong with the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from understudy.pipeline.stage import Stage
from understudy.pipeline.stages import AnyStage
from understudy.recipe.annotations import tagged_models
from understudy.recipe.document import Document, parse_document, read_document
from understudy.recipe.files import source_problems
from understudy.recipe.inheriting import inherit
from understudy.recipe.joining import joining_problems
from understudy.recipe.overrides import apply_overrides
from understudy.recipe.problems import KeyPath, Problem, RecipeError
from understudy.recipe.references import misplaced
from understudy.recipe.schema import Recipe
from understudy.recipe.translation import problems_of
from understudy.sources.data import DataSpec
from understudy.sources.model_specs import AnyModel
from understudy.spec import Spec

_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON lets stand in a text and YAML does not, or reads as the end of a line."""


def load_recipe(path: str | Path, overrides: Sequence[str] = (), *, files: bool = True) -> Recipe:
    """Read a recipe; nothing is downloaded, built or imported.

    Args:
        path: a YAML or JSON file.
        overrides: ``key=value`` texts that replace values of the file, as after ``--set``.
        files: check that the files that the recipe names are there, and that libraries have the models it names.

    Raises:
        RecipeError: listing everything that is wrong, each with its line and its remedy.
        InputError: when the file itself cannot be read.
    """
    return _recipe(read_document(Path(path)), overrides, files=files)


def load_and_join(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe that is about to run: as :func:`load_recipe`, and its models are built and joined once.

    Raises:
        RecipeError: also for models that cannot be built, layers that do not exist, and shapes that no adapter
            can join, with the line of each.
        InputError: when the recipe's file or its data cannot be read.
    """
    document = read_document(Path(path))
    recipe = _recipe(document, overrides, files=True)
    problems = _placed(joining_problems(recipe), document)
    if problems:
        raise RecipeError(document.name, sorted(problems, key=lambda problem: _order(problem, overrides)))
    return recipe


def parse_recipe(text: str, overrides: Sequence[str] = (), *, name: str = "recipe", files: bool = True) -> Recipe:
    """Read a recipe from text, as :func:`load_recipe` does from a file.

    Raises:
        RecipeError: listing everything that is wrong.
    """
    return _recipe(parse_document(text, name), overrides, files=files)


def dump_recipe(recipe: Recipe) -> str:
    """The recipe with every default written out, as JSON text (which is YAML too) that loads to an equal recipe."""
    text = json.dumps(recipe.model_dump(mode="json"), indent=1, ensure_ascii=False)
    return _NOT_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def _recipe(document: Document, overrides: Sequence[str], *, files: bool) -> Recipe:
    problems = document.problems + apply_overrides(document, overrides)
    if not isinstance(document.data, dict):
        given = "nothing" if document.data is None else f"a {type(document.data).__name__}"
        raise RecipeError(
            document.name,
            [
                *problems,
                Problem((), f"expected keys such as 'version' and 'stages', got {given}", document.place(())),
            ],
        )
    if strangers := inherit(document):
        raise RecipeError(document.name, [*problems, *strangers])  # what they would have written is missing
    recipe, found = _validated(document)
    if files:
        found += source_problems(_parts(document))
    problems += _placed(found, document)
    if problems or recipe is None:
        raise RecipeError(document.name, sorted(problems, key=lambda problem: _order(problem, overrides)))
    return recipe


def _placed(problems: Iterable[Problem], document: Document) -> list[Problem]:
    return [Problem(problem.path, problem.message, document.place(problem.path)) for problem in problems]


def _order(problem: Problem, overrides: Sequence[str]) -> tuple[bool, int]:
    """Line by line, then what came from the command line."""
    override = problem.place.removeprefix("--set ")
    if override in overrides:
        return True, overrides.index(override)
    line = problem.place.rpartition(":")[2]
    return False, int(line) if line.isdigit() else 0


def _validated(document: Document) -> tuple[Recipe | None, list[Problem]]:
    try:
        return _strictly(TypeAdapter(Recipe), document.data), []
    except ValidationError as error:
        problems = problems_of(error, Recipe)
        known = {problem.path for problem in problems}
        # References are checked by the recipe itself only when every stage is valid.
        return None, problems + [Problem(*item) for item in misplaced(_stages(document)) if item[0] not in known]


def _strictly(adapter: TypeAdapter[Any], data: Any) -> Any:
    """Validate as JSON: a list may be a tuple there, but a text in quotes is no number."""
    return adapter.validate_json(json.dumps(data), strict=True)


def _stages(document: Document) -> dict[KeyPath, Stage | str]:
    """Every stage that is valid in itself; of the others what they refer to, or at least the name."""
    valid = {path: part for path, part in _parts(document) if isinstance(part, Stage)}
    items = document.data.get("stages")
    stages: dict[KeyPath, Stage | str] = {}
    for index, item in enumerate(items if isinstance(items, list) else []):
        path = ("stages", index)
        if path in valid:
            stages[path] = valid[path]
        elif isinstance(item, dict) and isinstance(item.get("name"), str):
            stages[path] = _unchecked(item) or item["name"]
    return stages


def _unchecked(item: dict[str, Any]) -> Stage | None:
    """A stage that is not valid, as far as it can say which stages it needs."""
    kind = tagged_models(AnyStage).get(str(item.get("kind")))
    if kind is None:
        return None
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in item.items()}
    stage = kind.model_construct(None, **values)
    assert isinstance(stage, Stage)
    try:
        understood = all(isinstance(name, str) for name in stage.needs) and isinstance(stage.snapshot_count, int)
    except (AttributeError, TypeError):  # the very key is missing, or of a wrong type, which is reported elsewhere
        return None
    return stage if understood else None


def _parts(document: Document) -> Iterator[tuple[KeyPath, Spec]]:
    """The data and the stages that are valid in themselves, whatever is wrong with the rest.

    Of data and stages that are not valid, the source and the model, so that what they name is still looked for.
    """
    data = document.data.get("data")
    source = data.get("source") if isinstance(data, dict) else None
    if (valid := _attempt(DataSpec, data)) is not None:
        yield ("data",), valid
    elif isinstance(source, str):
        yield ("data",), DataSpec(source=source)
    stages = document.data.get("stages")
    for index, item in enumerate(stages if isinstance(stages, list) else []):
        path: KeyPath = ("stages", index)
        if (valid := _attempt(AnyStage, item)) is not None:
            yield path, valid
        elif isinstance(item, dict) and (model := _attempt(AnyModel, item.get("model"))) is not None:
            yield (*path, "model"), model


def _attempt(annotation: Any, data: Any) -> Spec | None:
    try:
        return _strictly(TypeAdapter(annotation), data)
    except ValidationError:
        return None
