"""Changing single values of a recipe from the command line: ``--set stages.student.training.epochs=5``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy.errors import InputError, listing, nearest
from understudy.recipe.document import Document, parse_value
from understudy.recipe.problems import KeyPath, Problem, RecipeError, dotted


def apply_overrides(document: Document, overrides: Sequence[str]) -> list[Problem]:
    """Put every ``key=value`` into the document, in order.

    A key is dotted. An item of a list is addressed by its position, by its ``name``, or, where no other item has
    the same, by its ``kind``. Mappings that the recipe leaves out are made; whether their keys exist is found
    when the recipe is validated.

    Args:
        document: changed in place.
        overrides: as given after ``--set``.

    Returns:
        What could not be applied.
    """
    problems = []
    for override in overrides:
        place = f"--set {override}"
        try:
            keys, value = _parsed(override)
            document.put(_reached(document, keys, place), value, place)
        except InputError as error:
            problems.append(Problem((), str(error), place))
    return problems


def _parsed(override: str) -> tuple[list[str], Any]:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key or not all(key.split(".")):
        raise InputError("expected key=value, such as stages.student.training.epochs=5")
    try:
        return key.split("."), parse_value(text)
    except RecipeError as error:
        reason = error.problems[0].message
        raise InputError(f"the value is {reason}. Quotes keep the shell from changing it: --set '{key}=…'") from error


def _reached(document: Document, keys: Sequence[str], place: str) -> KeyPath:
    """The path that the keys mean, with the mappings on the way made where there are none."""
    if document.data is None:
        document.data = {}
    container: Any = document.data
    path: KeyPath = ()
    for position, key in enumerate(keys):
        if isinstance(container, list):
            path = (*path, _index(container, key, path))
        elif isinstance(container, dict):
            path = (*path, key)
        else:
            raise InputError(f"{dotted(path)} is {container!r}, which has no keys; set {dotted(path)} itself")
        if position == len(keys) - 1:
            break
        if isinstance(container, dict) and container.get(key) is None:
            container[key] = {}
            document.places[path] = place
        part: Any = path[-1]
        container = container[part]
    return path


def _index(items: Sequence[Any], key: str, path: KeyPath) -> int:
    """The position of the item that is meant: by number, by name, or by kind."""
    span = f"0 to {len(items) - 1}" if items else "it is empty"
    if key.isdigit():
        if int(key) < len(items):
            return int(key)
        raise InputError(f"{dotted(path)} has {len(items)} items ({span}); there is no {key}")
    mappings = [(index, item) for index, item in enumerate(items) if isinstance(item, Mapping)]
    for label in ("name", "kind"):
        found = [index for index, item in mappings if item.get(label) == key]
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(f"{dotted(path)} has several items {key!r}; take one by position: {found}")
    names = list(dict.fromkeys(str(item.get("name") or item.get("kind")) for _, item in mappings))
    known = nearest(key, names) or (f"; they are {listing(names)}" if names else "")
    raise InputError(f"{dotted(path)} has no item {key!r}{known}. Items go by position ({span}) or by name")
