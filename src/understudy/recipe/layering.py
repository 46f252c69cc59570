"""The recipe of `understudy transferability --layers`: which layers of one network transfer to other data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from understudy.recipe.writing import usual_training, written

SCRATCH, RESULTS = "scratch", "results"
"""Names of the stages that are there for any units."""
MOST_UNITS = 8
"""How many numbers of units are tried when nobody says which."""


@dataclass(frozen=True)
class LayerExperiment:
    """What a user asks for.

    Attributes:
        model: the source, as a recipe has it under ``model``.
        data: where samples come from.
        task: the kind of problem.
        units: the numbers of units that are kept, each at least 1, rising.
        epochs: of every training.
        labels: how many training samples have a label, or which part of them; None for all.
        seeds: how often everything is trained.
    """

    model: dict[str, Any]
    data: str
    task: str
    units: tuple[int, ...]
    epochs: float
    labels: int | float | None
    seeds: int


def layer_recipe(asked: LayerExperiment, *, name: str) -> str:
    """The recipe, in YAML: the network from random weights; with its first units kept, frozen and tuned; all measured.

    Args:
        asked: what the user wants.
        name: of the recipe.

    References:
        Yosinski, Clune, Bengio, Lipson: How transferable are features in deep neural networks?, NeurIPS 2014
        (arXiv:1411.1792): ``frozen-n`` is its AnB, ``tuned-n`` its AnB+.
    """
    stages = [_stage(asked, SCRATCH, 0)]
    for count in asked.units:
        stages += [_stage(asked, f"frozen-{count}", count, freeze=count), _stage(asked, f"tuned-{count}", count)]
    models = [stage["name"] for stage in stages]
    return written(
        {
            "version": 1,
            "name": name,
            "description": "Made by understudy transferability --layers.",
            "task": asked.task,
            "seeds": list(range(asked.seeds)),
            "data": {"source": asked.data},
            "stages": [
                *stages,
                {"kind": "evaluate", "name": RESULTS, "models": models, "latency": False, "memory": False},
            ],
        }
    )


def _stage(asked: LayerExperiment, name: str, units: int, *, freeze: int = 0) -> dict[str, Any]:
    return {
        "kind": "transfer",
        "name": name,
        "model": asked.model,
        "units": units,
        **({"tuning": {"freeze": freeze}} if freeze else {}),
        **({"subset": {"labels": asked.labels}} if asked.labels is not None else {}),
        "training": usual_training(asked.epochs),
        "control": False,
    }


def spread_units(count: int) -> tuple[int, ...]:
    """The numbers of units to try: all, or eight evenly spaced ones from the first to the last.

    Args:
        count: how many units there are, at least 1.

    Example:
        >>> spread_units(3)
        (1, 2, 3)
        >>> spread_units(17)
        (1, 3, 6, 8, 10, 12, 15, 17)
    """
    if count <= MOST_UNITS:
        return tuple(range(1, count + 1))
    return tuple(round(1 + place * (count - 1) / (MOST_UNITS - 1)) for place in range(MOST_UNITS))
