"""The recipe of `understudy compress`: which candidates are made of a model, and how the best one is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from understudy.errors import InputError
from understudy.export.exporting import INT8_FORMATS
from understudy.recipe.writing import usual_training, written

ORIGINAL, STUDENT, RESULTS, DEPLOYMENT = "original", "student", "results", "deployment"
FLOAT_FILES, INT8_FILES = "files", "int8-files"
"""Names of its stages."""


@dataclass(frozen=True)
class Compression:
    """What a user asks for.

    Attributes:
        model: the trained model, as a recipe has it under ``model``.
        data: where samples come from.
        task: the kind of problem.
        student: another network that is distilled from the model and compressed like it; None for none.
        shares: of the multiply-accumulates that pruned candidates keep, falling.
        epochs: of every training.
        views: augmentation, as a recipe has it.
        max_drop: points of the task's metric that a file may be below the model.
        target: what the file may cost, as :func:`understudy.targets.parse_target` reads it; None for no limit.
        formats: of the files; those of quantized models are the ones among
            :data:`~understudy.export.exporting.INT8_FORMATS`.
        recurrent: whether the model has recurrent layers, which no stage quantizes: its int8 files are dynamic ones,
            made from the float files.
        control: whether every training has one beside it without the teacher.
        seconds: for which each file is timed, in each way to run it.
        seed: of everything.
    """

    model: dict[str, Any]
    data: str
    task: str
    student: dict[str, Any] | None
    shares: tuple[float, ...]
    epochs: float
    views: dict[str, Any] | None
    max_drop: float
    target: str | None
    formats: tuple[str, ...]
    recurrent: bool = False
    control: bool = True
    seconds: float = 1.0
    seed: int = 0


def compression_recipe(asked: Compression, *, name: str) -> str:
    """The recipe, in YAML, with a comment where one may want to change something.

    The model is pruned to each share in turn, each time trained with the model itself as the teacher; a student is
    distilled. Each of these, and the model, is also quantized (recurrent ones as files only). All are exported, and
    the deploy stage chooses.

    Args:
        asked: what the user wants.
        name: of the recipe.

    Raises:
        InputError: for shares that do not fall from below 1.
    """
    candidates, stages = _candidates(asked)
    quantized = {} if asked.recurrent else {f"{each}-int8": each for each in candidates}
    stages += [
        {"kind": "quantize", "name": name, "model": each, "max_drop": asked.max_drop}
        for name, each in quantized.items()
    ]
    dynamic = ("onnx_dynamic",) if asked.recurrent and "onnx" in asked.formats else ()
    formats = {
        FLOAT_FILES: (candidates, (*asked.formats, *dynamic)),
        INT8_FILES: ([*quantized], tuple(name for name in asked.formats if name in INT8_FORMATS)),
    }
    exported = {name: (models, names) for name, (models, names) in formats.items() if models and names}
    stages += [
        {"kind": "export", "name": name, "models": models, "formats": list(names)}
        for name, (models, names) in exported.items()
    ]
    stages += [
        {"kind": "evaluate", "name": RESULTS, "models": [*candidates, *quantized]},
        {
            "kind": "deploy",
            "name": DEPLOYMENT,
            "files": list(exported),
            "reference": ORIGINAL,
            "max_drop": asked.max_drop,
            "seconds": asked.seconds,
            **({"target": asked.target} if asked.target else {}),
        },
    ]
    recipe = {
        "version": 1,
        "name": name,
        "description": "Made by understudy compress.",
        "task": asked.task,
        "seeds": [asked.seed],
        "data": {"source": asked.data},
        "stages": stages,
    }
    return written(recipe)


def _candidates(asked: Compression) -> tuple[list[str], list[dict[str, Any]]]:
    """The networks before they are quantized: their stages' names, and the stages."""
    stages: list[dict[str, Any]] = [{"kind": "load", "name": ORIGINAL, "model": asked.model}]
    names, before = [ORIGINAL], 1.0
    for share in _falling(asked.shares):
        names.append(f"pruned-{round(100 * share)}")
        stages.append(
            {
                "kind": "prune",
                "name": names[-1],
                "model": names[-2],
                "target": {"macs": round(share / before, 6)},
                "recovery": {
                    "teacher": ORIGINAL,
                    **_seen(asked),
                    "training": usual_training(asked.epochs),
                    "control": asked.control,
                },
            }
        )
        before = share
    if asked.student is not None:
        names.append(STUDENT)
        terms = [
            {"kind": "cross_entropy", "weight": 0.1},
            {"kind": "soft_targets", "temperature": 4.0, "weight": 0.9},
        ]
        stages.append(
            {
                "kind": "distill",
                "name": STUDENT,
                "teacher": ORIGINAL,
                "model": asked.student,
                "objective": terms,
                **_seen(asked),
                "training": usual_training(asked.epochs),
                "control": asked.control,
            }
        )
    return names, stages


def _falling(shares: Sequence[float]) -> Sequence[float]:
    if any(not 0.0 < share < 1.0 for share in shares) or list(shares) != sorted(set(shares), reverse=True):
        raise InputError(
            f"expected falling shares between 0 and 1, such as 0.5,0.25; got {', '.join(map(str, shares))}"
        )
    return shares


def _seen(asked: Compression) -> dict[str, Any]:
    return {"views": asked.views} if asked.views else {}
