"""The recipes that come with Understudy: in the wheel, or in the source tree that an editable install points to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from understudy.errors import InputError, listing, nearest
from understudy.recipe.document import read_document

PACKAGE = Path(__file__).resolve().parent.parent
PLACES = (PACKAGE / "shipped_recipes", PACKAGE.parent.parent / "recipes")
"""Where the build puts them, and where they are in the source tree."""


@dataclass(frozen=True)
class Shipped:
    """One of the recipes that come with Understudy.

    Attributes:
        name: its file name without the suffix.
        description: what it says about itself, in one line.
        path: the file.
    """

    name: str
    description: str
    path: Path


def shipped_recipes() -> dict[str, Shipped]:
    """All of them by name, in alphabetical order; empty when the installation has none."""
    folder = next((place for place in PLACES if place.is_dir()), None)
    files = sorted(folder.glob("*.yaml")) if folder is not None else []
    return {file.stem: Shipped(file.stem, _description(file), file) for file in files}


def shipped_recipe(name: str) -> Shipped:
    """One of them.

    Raises:
        InputError: for a name that none of them has, with the nearest.
    """
    recipes = shipped_recipes()
    known = name.removesuffix(".yaml")
    if known not in recipes:
        near = nearest(known, recipes) or (f"; there are {listing(list(recipes))}" if recipes else "; there are none")
        raise InputError(f"no recipe called {name!r} comes with Understudy{near}")
    return recipes[known]


def _description(file: Path) -> str:
    data = read_document(file).data
    text = data.get("description") if isinstance(data, dict) else None
    return " ".join(str(text or "").split())
