"""What can be made of a quantized model: int8 files and students, and no smaller networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from understudy.errors import listing
from understudy.export.exporting import INT8_FORMATS
from understudy.pipeline.recovery import Compressing
from understudy.pipeline.stage import Name, Stage, stage_of
from understudy.pipeline.stages import Export, Quantize
from understudy.recipe.problems import KeyPath


def misused_quantized(stages: Sequence[Stage]) -> list[tuple[KeyPath, str]]:
    """All stages that would compress a quantized model again, or write it in a format that cannot hold it.

    Args:
        stages: of the recipe, in their order.
    """
    quantized: set[Name] = set()
    problems: list[tuple[KeyPath, str]] = []
    for index, stage in enumerate(stages):
        begins = stage.network if isinstance(stage.network, str) else None
        if isinstance(stage, Compressing) and begins in quantized:
            message = f"the model of {begins!r} is quantized already; name the float model that it was made from"
            problems.append((("stages", index, "model"), message))
        if isinstance(stage, Quantize) or begins in quantized:
            quantized.add(stage.name)
        if isinstance(stage, Export):
            problems += [(("stages", index, *path), message) for path, message in _unwritable(stage, quantized)]
    return problems


def _unwritable(stage: Export, quantized: set[Name]) -> Iterator[tuple[KeyPath, str]]:
    models = [model for model in stage.models if stage_of(model) in quantized]
    for place, name in enumerate(stage.formats):
        if models and name not in INT8_FORMATS:
            yield (
                ("formats", place),
                f"{listing(models)} is quantized, which {name!r} cannot hold; expected one of {listing(INT8_FORMATS)}, "
                "or an export stage of its own for the float models",
            )
