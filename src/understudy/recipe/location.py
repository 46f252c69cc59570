"""From pydantic's place of an error to the key that the user wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, Tag

from understudy.recipe.annotations import (
    Model,
    bare,
    discriminator,
    field_annotation,
    item_of,
    model_of,
    tagged_models,
    union_members,
)
from understudy.recipe.problems import KeyPath


@dataclass(frozen=True)
class Location:
    """Where an error is, in the user's own terms.

    Attributes:
        path: keys and positions, without the names of types that pydantic puts between them.
        parent: the model that has the last key as a field, or was given it as an unknown one.
        annotation: the type of the value.
        branches: for each union of unlike types on the way (a number or a schedule): its path, and the name of
            the member that pydantic tried.
    """

    path: KeyPath
    parent: Model | None
    annotation: Any
    branches: tuple[tuple[KeyPath, str], ...] = ()

    def step(self, part: str | int) -> Location:
        """One part of pydantic's place further."""
        annotation = bare(self.annotation)
        if discriminator(annotation) is not None:
            return self._at(tagged_models(annotation).get(str(part), Any))
        if (members := union_members(annotation)) is not None:
            branches = (*self.branches, (self.path, str(part)))
            return self._at(_member(members, str(part)), branches)
        if (model := model_of(annotation)) is not None:
            field = model.model_fields.get(str(part))
            below = field_annotation(field) if field is not None else Any
            return Location((*self.path, part), model, below, self.branches)
        return Location((*self.path, part), None, item_of(annotation), self.branches)

    def _at(self, annotation: Any, branches: tuple[tuple[KeyPath, str], ...] | None = None) -> Location:
        return Location(self.path, self.parent, annotation, self.branches if branches is None else branches)


def locate(root: type[BaseModel], place: Sequence[str | int]) -> Location:
    """Follow pydantic's place of an error through the types of ``root``."""
    location = Location((), None, root)
    for part in place:
        location = location.step(part)
    return location


def _member(members: Sequence[Any], label: str) -> Any:
    """The member of a union that pydantic calls by this label."""
    for member in members:
        if any(isinstance(item, Tag) and item.tag == label for item in get_args(member)):
            return member
        if discriminator(bare(member)) is not None and label.startswith("tagged-union["):
            return member
        model = model_of(member)
        if model is not None and model.__name__ in label:
            return member
    return Any
