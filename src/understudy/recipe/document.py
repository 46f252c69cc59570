"""YAML 1.2 as plain values that remember their lines. Nothing in a file can run code."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from understudy.errors import InputError, nearest
from understudy.recipe.problems import KeyPath, Problem, RecipeError

PLAIN_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "timestamp", "map", "seq", "merge")
)
MOST_VALUES = 20_000
"""A file that unfolds to more values than this is refused: anchors within anchors grow without bound."""


@dataclass
class Document:
    """A recipe as it was written, before anything is known about its meaning.

    Attributes:
        name: what the user called it, for messages.
        data: mappings, lists and scalars, as JSON knows them.
        places: where the value at each path was written.
        problems: what was found while reading: keys given twice, tags.
    """

    name: str
    data: Any = None
    places: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: KeyPath) -> str:
        """Where the value at ``path`` was written, or the nearest mapping or list around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return self.name

    def put(self, path: KeyPath, value: Any, place: str) -> None:
        """Set the value at ``path``, whose containers exist, and forget where the parts of the old one were."""
        container = self.data
        for part in path[:-1]:
            container = container[part]
        container[path[-1]] = value
        self.places = {known: at for known, at in self.places.items() if known[: len(path)] != path}
        self.places[path] = place


def read_document(path: Path) -> Document:
    """Read one YAML (or JSON) file.

    Raises:
        InputError: for a file that is not there or is not text.
        RecipeError: for text that is not YAML, naming the line.
    """
    return parse_document(_text(path), str(path))


def parse_document(text: str, name: str) -> Document:
    """Read YAML text.

    Args:
        text: the content.
        name: the file's name, for messages.

    Raises:
        RecipeError: for text that is not YAML, naming the line.
    """
    document = Document(name)
    node = _compose(text, name)
    document.places[()] = f"{name}:1"
    if node is not None:
        document.data = _Reader(document).value(node, ())
    return document


def parse_value(text: str) -> Any:
    """One value as YAML reads it: ``5e-2`` is a number, ``[1, 2]`` a list, ``null`` nothing.

    Raises:
        RecipeError: for text that is not YAML.
    """
    document = parse_document(text, "value")
    if document.problems:
        raise RecipeError("value", document.problems)
    return document.data


def _compose(text: str, name: str) -> Node | None:
    try:
        return YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        begun = error.context_mark.line + 1 if error.context_mark is not None else line
        since = f" ({error.context}, begun in line {begun})" if error.context and begun != line else ""
        message = f"not readable as YAML: {error.problem}{since}{_remedy(error.problem or '')}"
        raise RecipeError(name, [Problem((), message, f"{name}:{line}")]) from error
    except YAMLError as error:
        raise RecipeError(name, [Problem((), f"not readable as YAML: {error}", name)]) from error
    except RecursionError as error:
        raise RecipeError(name, [Problem((), "nested too deeply to be a recipe", name)]) from error


def _remedy(problem: str) -> str:
    if "\\t" in problem:
        return "; indent with spaces, YAML allows no tabs there"
    if "mapping values are not allowed" in problem:
        return "; a text with ': ' in it needs quotes, and keys of one mapping the same indentation"
    if "another document" in problem:
        return "; a recipe is one document, take the line '---' out"
    return ""


class _Reader:
    """Turns YAML nodes into plain values and notes their places."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._scalars = YAML(typ="safe", pure=True).constructor
        self._open: list[Node] = []
        self._count = 0

    def value(self, node: Node, path: KeyPath) -> Any:
        self._count += 1
        if self._count > MOST_VALUES or any(node is parent for parent in self._open):
            message = "an anchor that contains itself, or anchors that unfold without end; write the values out"
            raise RecipeError(self.document.name, [Problem(path, message, self._line(node))])
        if str(node.tag) not in PLAIN_TAGS:
            tag = str(node.tag).replace("tag:yaml.org,2002:", "!!")
            self._problem(path, f"the tag {tag!r} is not allowed, a recipe holds plain values only", node)
            return None
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        self._open.append(node)
        value = self._mapping(node, path) if isinstance(node, MappingNode) else self._sequence(node, path)
        self._open.pop()
        return value

    def _scalar(self, node: ScalarNode, path: KeyPath) -> Any:
        try:
            value = self._scalars.construct_object(node)
        except (ValueError, YAMLError):
            kind = str(node.tag).rpartition(":")[2]
            self._problem(path, f"{node.value!r} is not readable as {kind}", node)
            return None
        return node.value if isinstance(value, datetime.date) else value

    def _sequence(self, node: Node, path: KeyPath) -> list[Any]:
        assert isinstance(node, SequenceNode)
        values = []
        for index, item in enumerate(node.value):
            self.document.places[(*path, index)] = self._line(item)
            values.append(self.value(item, (*path, index)))
        return values

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        lines: dict[str, str] = {}
        # What is merged comes first, so that the mapping's own keys, and their lines, win.
        for key_node, value_node in sorted(node.value, key=lambda item: not _is_merge(item[0])):
            if _is_merge(key_node):
                values.update(self._merged(value_node, path))
                continue
            key = self._key(key_node, path)
            if key in lines:
                self._problem((*path, key), f"given twice, first at {lines[key]}; keep one", key_node)
                continue
            self.document.places[(*path, key)] = lines[key] = self._line(key_node)
            values[key] = self.value(value_node, (*path, key))
        return values

    def _key(self, node: Node, path: KeyPath) -> str:
        if isinstance(node, ScalarNode):
            return str(node.value)
        self._problem(path, "a key must be a word, not a list or a mapping", node)
        return "?"

    def _merged(self, node: Node, path: KeyPath) -> dict[str, Any]:
        """What ``<<: *base`` brings in; the first of several wins."""
        parts: Iterable[Node] = node.value if isinstance(node, SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for part in parts:
            if not isinstance(part, MappingNode):
                self._problem(path, "'<<' takes a mapping, or a list of mappings", node)
                continue
            merged = {**self.value(part, path), **merged}
        return merged

    def _problem(self, path: KeyPath, message: str, node: Node) -> None:
        self.document.problems.append(Problem(path, message, self._line(node)))

    def _line(self, node: Node) -> str:
        return f"{self.document.name}:{node.start_mark.line + 1}"


def _is_merge(key: Node) -> bool:
    return str(key.tag).endswith(":merge")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        beside = [item.name for item in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise InputError(
            f"there is no file {str(path)!r}{nearest(path.name, beside)}. Write one with `understudy init`, or take "
            "one of those that `understudy recipes list` shows"
        ) from error
    except IsADirectoryError as error:
        raise InputError(f"{str(path)!r} is a folder, expected a recipe file such as recipe.yaml") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{str(path)!r} is not text in UTF-8 ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror}") from error
