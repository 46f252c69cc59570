"""Reading the types of a recipe: which keys a mapping may have, which kinds a union knows, what a value must be."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Model = type[BaseModel]


def field_annotation(field: FieldInfo) -> Any:
    """The whole annotation of a field, with the constraints and the discriminator that pydantic keeps apart."""
    annotation = field.annotation
    for item in field.metadata:
        annotation = Annotated[annotation, item]
    if field.discriminator is not None:
        annotation = Annotated[annotation, field]
    return annotation


def bare(annotation: Any) -> Any:
    """The annotation without constraints and without ``| None``; a union of kinds keeps its discriminator."""
    while True:
        if get_origin(annotation) is Annotated:
            if discriminator(annotation) is not None:
                return annotation
            annotation = get_args(annotation)[0]
            continue
        members = union_members(annotation)
        if members is None or len(members) != 1:
            return annotation
        annotation = members[0]


def union_members(annotation: Any) -> tuple[Any, ...] | None:
    """The members of a union, ``None`` left out; None for anything that is not a union."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return None
    return tuple(member for member in get_args(annotation) if member is not type(None))


def discriminator(annotation: Any) -> str | None:
    """The key that tells the members of a union apart, such as ``kind``; None for anything else."""
    if get_origin(annotation) is Annotated:
        for item in get_args(annotation)[1:]:
            if isinstance(item, FieldInfo) and isinstance(item.discriminator, str):
                return item.discriminator
    return None


def tagged_models(annotation: Any) -> dict[str, Model]:
    """The models of a union of kinds by their kind; empty for anything else."""
    key = discriminator(annotation)
    if key is None:
        return {}
    members = union_members(get_args(annotation)[0]) or get_args(annotation)[:1]
    return {tag: model for model in map(model_of, members) if model for tag in tags(model, key)}


def tags(model: Model, key: str) -> tuple[str, ...]:
    """The literal values that a model's discriminating field can have."""
    annotation = model.model_fields[key].annotation
    return tuple(map(str, get_args(annotation))) if get_origin(annotation) is Literal else ()


def model_of(annotation: Any) -> Model | None:
    """The model that an annotation is, if it is one."""
    annotation = bare(annotation)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def item_of(annotation: Any) -> Any:
    """What a list or mapping holds; ``Any`` for anything else."""
    annotation = bare(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (tuple, list, set, frozenset) and arguments:
        return arguments[0]
    return arguments[1] if origin is dict and len(arguments) == 2 else Any


def models_within(annotation: Any) -> Iterator[Model]:
    """Every model that a value of this type may be, looking through unions, but not into lists."""
    annotation = bare(annotation)
    if discriminator(annotation) is not None:
        yield from tagged_models(annotation).values()
    elif (model := model_of(annotation)) is not None:
        yield model
    else:
        for member in union_members(annotation) or ():
            yield from models_within(member)


def keys_below(model: Model, *, depth: int = 2) -> Iterator[str]:
    """Dotted keys of a model and of the mappings inside it, such as ``training`` and ``training.epochs``.

    Args:
        model: where to begin.
        depth: how many levels of mappings to go down.
    """
    for name, field in model.model_fields.items():
        yield name
        if depth > 0:
            for inner in models_within(field_annotation(field)):
                yield from (f"{name}.{key}" for key in keys_below(inner, depth=depth - 1))
