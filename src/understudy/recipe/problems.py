"""What is wrong with a recipe: every problem with its place, so that all can be repaired at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from understudy.errors import InputError

KeyPath = tuple[str | int, ...]
"""Where a value stands: keys of mappings and positions in lists, from the top of the recipe."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        path: the key that is meant, as the user wrote it.
        message: expected, received, remedy.
        place: where the value came from: ``recipe.yaml:12`` or ``--set stages.2.name=x``.
    """

    path: KeyPath
    message: str
    place: str = ""

    def __str__(self) -> str:
        key = dotted(self.path)
        if self.place.startswith(f"--set {key}="):
            key = ""  # the place says it already
        return ": ".join(part for part in (self.place, key, self.message) if part)


class RecipeError(InputError):
    """A recipe that cannot be run. Its text lists every problem on a line of its own.

    Args:
        name: what was read, such as ``recipe.yaml``.
        problems: at least one.
    """

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.name = name
        self.problems = tuple(dict.fromkeys(problems))
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{name}: {count}", *(f"  {problem}" for problem in self.problems)]))


def dotted(path: KeyPath) -> str:
    """A path as ``--set`` takes it: ``stages.2.training.epochs``."""
    return ".".join(map(str, path))
