"""Pydantic's errors in the words of a recipe: expected, received, what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from understudy.errors import listing, nearest
from understudy.recipe.annotations import Model, bare, discriminator, keys_below, tagged_models
from understudy.recipe.location import Location, locate
from understudy.recipe.problems import KeyPath, Problem

MISMATCHES: dict[str, str] = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "a text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "literal_error": "",
}
"""Errors that say only: this is not a value of that type, and the words for the type."""


@dataclass(frozen=True)
class _Found:
    """One of pydantic's errors, at its place."""

    kind: str
    location: Location
    raw: Mapping[str, Any]

    @property
    def is_mismatch(self) -> bool:
        return self.kind in MISMATCHES


def problems_of(error: ValidationError, root: type[BaseModel]) -> list[Problem]:
    """All that pydantic has found, each thing once, at the keys that the user wrote.

    Args:
        error: what validation raised.
        root: the model that was validated.
    """
    found = [_Found(raw["type"], locate(root, raw["loc"]), raw) for raw in error.errors(include_url=False)]
    problems: list[Problem] = []
    for group in _by_union(found):
        kept = _chosen(group)
        if len(kept) > 1 and all(item.is_mismatch for item in kept):
            problems.append(_merged(kept))
        else:
            problems += [problem for item in kept for problem in _problems(item)]
    return _without_echoes(problems, found)


def _by_union(found: Iterable[_Found]) -> list[list[_Found]]:
    """Errors below the same union of unlike types belong together: most are about members that were not meant."""
    groups: dict[object, list[_Found]] = {}
    for index, item in enumerate(found):
        key = item.location.branches[0][0] if item.location.branches else index
        groups.setdefault(key, []).append(item)
    return list(groups.values())


def _chosen(group: list[_Found]) -> list[_Found]:
    """What is about the member of the union that the value resembles."""
    meant = {
        item.location.branches[0][1]
        for item in group
        if item.location.branches and not (item.is_mismatch and item.location.path == item.location.branches[0][0])
    }
    return [item for item in group if item.location.branches[0][1] in meant] if meant else group


def _merged(group: list[_Found]) -> Problem:
    """One problem for a value that is none of the types a union allows."""
    words = list(dict.fromkeys(_expected(item) for item in group))
    if "a number" in words and "a whole number" in words:
        words.remove("a whole number")
    return _mismatch(group[0], " or ".join(words))


def _problems(item: _Found) -> list[Problem]:
    raw, location = item.raw, item.location
    context = raw.get("ctx", {})
    if item.kind == "extra_forbidden":
        return [Problem(location.path, _unknown_key(location))]
    if item.kind == "missing":
        return [Problem(location.path, _missing(location))]
    if item.kind == "union_tag_invalid":
        return [Problem(*_unknown_kind(location, str(context["tag"])))]
    if item.kind == "union_tag_not_found":
        return [_untagged(item)]
    if item.kind == "problems":
        return [Problem((*location.path, *path), message) for path, message in context["problems"]]
    if item.kind == "too_short":
        least = context["min_length"]
        return [Problem(location.path, f"expected at least {least} item{'s' * (least > 1)}, got {shown(raw['input'])}")]
    if item.kind == "literal_error":
        return [Problem(location.path, _not_allowed(raw["input"], context["expected"]))]
    if item.is_mismatch:
        return [_mismatch(item, _expected(item))]
    message = str(raw["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if message.startswith("Input should "):
        message = f"expected {_requirement(message)}, got {shown(raw['input'])}"
    if item.kind == "string_pattern_mismatch":
        message = _pattern(str(context["pattern"]), raw["input"])
    return [Problem(location.path, message)]


def _requirement(message: str) -> str:
    wanted = message.removeprefix("Input should ").removeprefix("be ").removeprefix("have ")
    return re.sub(r"^(greater|less|a multiple)", r"a number \1", wanted)


def _pattern(pattern: str, value: Any) -> str:
    if "_.-]" in pattern:
        snapshot = " (and '@2' at the end for the second snapshot)" if "@" in pattern else ""
        return f"expected letters, digits, '_', '-' and '.' only{snapshot}, got {shown(value)}"
    return f"expected a word of letters, digits and '_', got {shown(value)}"


def _unknown_key(location: Location) -> str:
    key = str(location.path[-1])
    if location.parent is None:
        return f"unknown key {key!r}"
    return f"unknown key {key!r}{nearest_key(key, location.parent)}"


def nearest_key(key: str, model: Model) -> str:
    """Name the keys that could have been meant, also those one or two mappings further down.

    Args:
        key: the unknown key.
        model: what it was given to.
    """
    own = list(model.model_fields)
    if difflib.get_close_matches(key, own, n=1, cutoff=0.5):
        return nearest(key, own)
    below = {name: name.rpartition(".")[2] for name in keys_below(model)}
    meant = difflib.get_close_matches(key, list(below.values()), n=1, cutoff=0.8)
    deeper = [name for name, last in below.items() if last in meant]
    if deeper:
        return f"; it belongs further down: {listing(deeper, most=3)}"
    return f"; expected one of {listing(own, most=12)}"


def _missing(location: Location) -> str:
    field = location.parent.model_fields.get(str(location.path[-1])) if location.parent else None
    meaning = " ".join((field.description or "").replace("``", "`").split()) if field is not None else ""
    return f"is missing{': ' + meaning if meaning else ''}"


def _unknown_kind(location: Location, tag: str) -> tuple[KeyPath, str]:
    key, kinds = _kinds(location)
    text = f"unknown {key} {tag!r}{nearest(tag, kinds)}; expected one of {listing(kinds, most=30)}"
    return (*location.path, key), text


def _untagged(item: _Found) -> Problem:
    key, kinds = _kinds(item.location)
    return Problem(item.location.path, f"needs {key!r}, one of {listing(kinds, most=30)}")


def _kinds(location: Location) -> tuple[str, list[str]]:
    annotation = bare(location.annotation)
    return discriminator(annotation) or "kind", list(tagged_models(annotation))


def _expected(item: _Found) -> str:
    if item.kind == "literal_error":
        return str(item.raw["ctx"]["expected"])
    key, kinds = _kinds(item.location)
    if kinds:
        return f"a mapping with {key!r}, one of {listing(kinds, most=30)}"
    return MISMATCHES[item.kind]


def _mismatch(item: _Found, expected: str) -> Problem:
    value = item.raw["input"]
    return Problem(item.location.path, f"expected {expected}, got {shown(value)}{_remedy(value, expected)}")


def _remedy(value: Any, expected: str) -> str:
    if isinstance(value, str) and "number" in expected and re.fullmatch(r"[+-]?[\d.]+([eE][+-]?\d+)?", value):
        return f"; write {value} without quotes"
    if isinstance(value, str) and value.lower() in ("yes", "on", "no", "off") and expected == "true or false":
        return f"; write {'true' if value.lower() in ('yes', 'on') else 'false'}"
    if isinstance(value, str) and value.lower() == "none":
        return "; write null for none"
    if isinstance(value, float) and expected == "a whole number" and value.is_integer():
        return f"; write {int(value)}"
    if isinstance(value, Mapping) and expected == "a list":
        return "; begin each item with '- '"
    if expected == "a list" and isinstance(value, str | int | float):
        return f"; write [{value}]"
    if isinstance(value, bool | int | float) and expected == "a text":
        return f"; write '{str(value).lower() if isinstance(value, bool) else value}' in quotes"
    return ""


def _not_allowed(value: Any, expected: str) -> str:
    options = re.findall(r"'([^']*)'", expected)
    near = nearest(value, options) if isinstance(value, str) else ""
    return f"expected {expected}, got {shown(value)}{near}"


def shown(value: Any) -> str:
    """A value in an error: short, with its type where the type is what is wrong."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"a mapping with {listing([str(key) for key in value], most=4)}" if value else "an empty mapping"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"a list of {len(value)}"
    text = repr(value)
    text = text if len(text) <= 80 else f"{text[:77]}…"
    return f"the text {text}" if isinstance(value, str) else text


def _without_echoes(problems: list[Problem], found: list[_Found]) -> list[Problem]:
    """Leave out a missing key when an unknown one beside it is that key misspelt, and a list too short for its errors.

    pydantic counts only the valid items of a list.
    """
    misspelt: set[KeyPath] = set()
    for item in found:
        if item.kind == "extra_forbidden" and item.location.parent is not None:
            key, fields = str(item.location.path[-1]), list(item.location.parent.model_fields)
            for match in difflib.get_close_matches(key, fields, n=1, cutoff=0.5):
                misspelt.add((*item.location.path[:-1], match))
    missing = {item.location.path for item in found if item.kind == "missing"}
    short = {item.location.path for item in found if item.kind == "too_short"}
    inside = {item.location.path[:length] for item in found for length in range(len(item.location.path))}
    return [problem for problem in problems if problem.path not in (misspelt & missing) | (short & inside)]
