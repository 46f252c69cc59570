"""A recommendation as lines of a recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from understudy.recommend.measuring import Option

_TRAINING = "{epochs: 30, batch_size: 128, optimizer: {kind: adamw, lr: 0.001}, schedule: {kind: cosine}}"
_OTHER_VALUES = ("true", "false", "null", "yes", "no", "on", "off", "y", "n")
_TERMS = ("{kind: cross_entropy, weight: 0.1}", "{kind: soft_targets, weight: 0.9, temperature: 4.0}")


def recipe_lines(student: Option) -> str:
    """The stages that make a student, to paste behind a stage named ``teacher``.

    Args:
        student: what was recommended.
    """
    if student.channels is not None:
        return f"""\
- kind: prune
  name: student
  model: teacher
  target: {{channels: {student.channels:g}}}
  scope: layer
  recovery:
    objective: [{", ".join(_TERMS)}]
    training: {_TRAINING}
"""
    assert student.model is not None
    terms = [*_TERMS, "{kind: hint, weight: 1.0}  # of one family: the layers are found"]
    lines = "\n".join(f"    - {term}" for term in terms if student.same_family or "hint" not in term)
    return f"""\
- kind: distill
  name: student
  teacher: teacher
  model: {flow(student.model)}
  objective:
{lines}
  training: {_TRAINING}
"""


def flow(value: Any) -> str:
    """A value as YAML on one line.

    Args:
        value: any JSON.

    Example:
        >>> flow({"source": "timm", "name": "resnet18", "arguments": {"channels": [32, 64]}})
        '{source: timm, name: resnet18, arguments: {channels: [32, 64]}}'
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    plain = isinstance(value, str) and value.replace("_", "").isalnum() and value[0].isalpha()
    return str(value) if plain and value.lower() not in _OTHER_VALUES else json.dumps(value)
