"""``understudy layers``: what a model is made of, as recipes name it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from understudy.cli.model_names import Classes, ModelName, Size, build_named
from understudy.cli.output import AsJson, columns, write, write_json


def list_layers(
    model: ModelName,
    size: Size = None,
    classes: Classes = None,
    depth: Annotated[
        int | None, typer.Option("--depth", metavar="N", min=1, help="List only layers this deep or less.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List a model's layers: the path to write in a recipe, the type, the shape of its output, its parameters.

    Example: [bold]understudy layers torchvision:resnet18 --size 3,32,32 --depth 2[/bold]
    """
    from understudy.sources.layers import layers

    built = build_named(model, size=size, classes=classes)
    found = layers(built.module, built.inputs)
    if depth is not None:
        found = [layer for layer in found if layer.path.count(".") < depth]
    parameters = sum(parameter.numel() for parameter in built.module.parameters())
    if as_json:
        write_json(
            {"schema": 1, "model": model, "parameters": parameters, "layers": [asdict(layer) for layer in found]}
        )
        return
    rows = [(layer.path, layer.type, _shape(layer.output_shape), f"{layer.parameters:,}") for layer in found]
    write(columns(rows, headers=("layer", "type", "output", "parameters"), right=(3,)))
    write(f"\n{parameters:,} parameters in all; shapes are those of a batch of {len(built.inputs)}")


def _shape(shape: tuple[int, ...] | None) -> str:
    return "×".join(map(str, shape)) if shape is not None else "-"
