"""Types of a recipe in words: ``number > 0``, ``list of text``, ``one of 'best', 'last'``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from understudy.recipe.annotations import Model, discriminator, model_of, tagged_models, union_members

_WORDS: dict[Any, str] = {int: "whole number", float: "number", str: "text", bool: "true or false", Any: "anything"}
_LIMITS = {
    annotated_types.Gt: ("gt", ">"),
    annotated_types.Ge: ("ge", "≥"),
    annotated_types.Lt: ("lt", "<"),
    annotated_types.Le: ("le", "≤"),
}


def described_type(annotation: Any, *, named: Callable[[Model], str] = lambda model: model.__name__) -> str:
    """What a value must be, in words.

    Args:
        annotation: the type of a field, with its constraints.
        named: how a mapping with fields of its own is called, such as with a link to its description.
    """
    if get_origin(annotation) is Annotated:
        models = tagged_models(annotation)
        if models:
            key = discriminator(annotation)
            return f"mapping with `{key}`: {', '.join(named(model) for model in models.values())}"
        limits = " and ".join(dict.fromkeys(_limits(get_args(annotation)[1:])))
        inner = described_type(get_args(annotation)[0], named=named)
        return f"{inner} {limits}" if limits else inner
    if union_members(annotation) is not None:
        words = dict.fromkeys(
            described_type(item, named=named) for item in get_args(annotation) if item is not type(None)
        )
        if "number" in words:
            words.pop("whole number", None)
        return " or ".join(words)
    if (model := model_of(annotation)) is not None:
        return named(model)
    if get_origin(annotation) is Literal:
        options = [f"`{option}`" for option in get_args(annotation)]
        return options[0] if len(options) == 1 else f"one of {', '.join(options)}"
    return _container(annotation, named) or _WORDS.get(annotation, str(getattr(annotation, "__name__", annotation)))


def _container(annotation: Any, named: Callable[[Model], str]) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple and len(arguments) == 2 and arguments[1] is not Ellipsis:
        return f"list of two: {described_type(arguments[0], named=named)}"
    if origin in (tuple, list):
        return f"list of {described_type(arguments[0], named=named)}"
    return "mapping" if origin is dict else ""


def _limits(metadata: tuple[Any, ...]) -> list[str]:
    words: list[str] = []
    for item in metadata:
        if isinstance(item, FieldInfo):
            words += _limits(tuple(item.metadata))
        elif isinstance(item, annotated_types.Interval):
            words += _limits(tuple(item))
        elif type(item) in _LIMITS:
            name, sign = _LIMITS[type(item)]
            words.append(f"{sign} {getattr(item, name):g}")
    return words
