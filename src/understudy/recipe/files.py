"""Files and code that a recipe names: found before anything is downloaded, imported or trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from understudy.errors import InputError
from understudy.pipeline.elsewhere import Elsewhere
from understudy.recipe.problems import KeyPath, Problem, dotted
from understudy.sources.data import DataSpec
from understudy.sources.model_specs import (
    ArtifactModel,
    BuiltinModel,
    PythonModel,
    TimmModel,
    TorchvisionModel,
    TransformersModel,
)
from understudy.sources.models import check_model
from understudy.sources.opening import local_path
from understudy.spec import Spec

Buildable = TorchvisionModel | TimmModel | TransformersModel | PythonModel | BuiltinModel


def source_problems(parts: Iterable[tuple[KeyPath, Spec]]) -> list[Problem]:
    """Name every file that is not there and every model that its library does not have.

    Nothing is built or downloaded, and no code of the user's is imported.

    Args:
        parts: pieces of a recipe with their paths.
    """
    problems = []
    for at, part in parts:
        for path, spec in _specs(part, at):
            for key, check in _checks(spec):
                try:
                    check()
                except InputError as error:
                    problems.append(Problem((*path, key), str(error)))
                    break
    return problems


def named_files(value: Any) -> list[tuple[str, str]]:
    """Every file or folder that a recipe reads, with the key that names it."""
    named = []
    for path, spec in _specs(value, ()):
        if isinstance(spec, DataSpec) and _is_local(spec.source):
            named.append((dotted((*path, "source")), spec.source))
        elif isinstance(spec, ArtifactModel | Elsewhere):
            named.append((dotted((*path, "path")), spec.path))
        elif isinstance(spec, Buildable) and spec.state is not None:
            named.append((dotted((*path, "state")), spec.state))
    return named


def named_code(value: Any) -> list[tuple[str, str]]:
    """Every ``module:callable`` that a recipe names under ``python``, with its key; nothing is imported."""
    return [
        (dotted((*path, "target")), spec.target) for path, spec in _specs(value, ()) if isinstance(spec, PythonModel)
    ]


def _checks(spec: BaseModel) -> Iterator[tuple[str, Callable[[], object]]]:
    """What can be checked of a spec, each with the key that is to blame."""
    if isinstance(spec, DataSpec):
        yield "source", lambda: _is_local(spec.source) and local_path(spec.source)
    elif isinstance(spec, ArtifactModel):
        yield "path", lambda: check_model(spec)
    elif isinstance(spec, Elsewhere):
        yield "path", spec.check
    elif isinstance(spec, Buildable):
        bare = spec.model_copy(update={"state": None})
        yield "target" if isinstance(spec, PythonModel) else "name", lambda: check_model(bare)
        yield "state", lambda: check_model(spec)


def _specs(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, BaseModel]]:
    """Every spec inside a value, itself included, with its path."""
    if isinstance(value, BaseModel):
        yield path, value
        items: Any = ((name, getattr(value, name)) for name in type(value).model_fields)
    elif isinstance(value, dict):
        items = value.items()
    elif isinstance(value, tuple | list):
        items = enumerate(value)
    else:
        return
    for key, item in items:
        yield from _specs(item, (*path, key))


def _is_local(source: str) -> bool:
    """Whether a data source is a file or folder; one that is written as such counts, there or not."""
    if source == "sklearn/digits":
        return False
    try:
        return local_path(source) is not None
    except InputError:
        return True
