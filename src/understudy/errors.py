"""Errors for people: what was expected, what was received, what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UnderstudyError(Exception):
    """Anything that Understudy reports to its user; the message is the whole story, no trace is needed."""

    exit_code = 1


class InputError(UnderstudyError, ValueError):
    """What the user gave cannot work: a recipe, a path, a shape, data. Nothing was trained."""

    exit_code = 2


class RunError(UnderstudyError, RuntimeError):
    """A run that had started could not go on; what it had saved is intact."""


def nearest(name: str, options: Iterable[str], *, count: int = 3) -> str:
    """Quote the options nearest to a misspelt name: ``"; nearest: 'layer3', 'layer3.0'"``, or an empty string.

    Args:
        name: what the user wrote.
        options: what could have been meant.
        count: how many to name at the most.
    """
    found = difflib.get_close_matches(name, list(options), n=count, cutoff=0.5)
    return f"; nearest: {', '.join(map(repr, found))}" if found else ""


def listing(items: Sequence[str], *, most: int = 8) -> str:
    """Quote a list of names, cut after ``most`` of them: ``"'a', 'b' and 3 more"``."""
    shown = ", ".join(map(repr, items[:most]))
    return f"{shown} and {len(items) - most} more" if len(items) > most else shown
