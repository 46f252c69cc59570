"""Recipes that a verb makes: as text that a person can change."""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML


def written(recipe: dict[str, Any]) -> str:
    """A recipe in YAML, small mappings and lists on one line, with a comment on what to do with it.

    Args:
        recipe: its keys, in the order in which they are written.
    """
    yaml = YAML()
    yaml.default_flow_style = None  # mappings and lists without others in them on one line
    yaml.width = 120
    yaml.representer.ignore_aliases = lambda _: True
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = io.StringIO()
    yaml.dump(recipe, text)
    return f"# Change what you like, and run it: understudy run FILE\n{text.getvalue()}"


def usual_training(epochs: float) -> dict[str, Any]:
    """A training that suits most networks, as a recipe has it.

    Args:
        epochs: how long it is.
    """
    return {
        "epochs": epochs,
        "batch_size": 128,
        "optimizer": {"kind": "adamw", "lr": 1e-3, "weight_decay": 1e-2},
        "schedule": {"kind": "cosine"},
        "warmup": 0.05,
    }
