"""Recipes: what a run is, read from YAML with every problem named at once.

The names below are imported when they are first needed, so that listing recipes costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from understudy.recipe.files import named_code, named_files
    from understudy.recipe.loading import dump_recipe, load_recipe, parse_recipe
    from understudy.recipe.problems import Problem, RecipeError
    from understudy.recipe.schema import Recipe

_HOME = {
    "Problem": "problems",
    "Recipe": "schema",
    "RecipeError": "problems",
    "dump_recipe": "loading",
    "load_recipe": "loading",
    "named_code": "files",
    "named_files": "files",
    "parse_recipe": "loading",
}

__all__ = [
    "Problem",
    "Recipe",
    "RecipeError",
    "dump_recipe",
    "load_recipe",
    "named_code",
    "named_files",
    "parse_recipe",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"understudy.recipe.{_HOME[name]}"), name)
    raise AttributeError(f"module 'understudy.recipe' has no attribute {name!r}")
