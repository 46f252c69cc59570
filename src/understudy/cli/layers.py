"""``understudy layers``: what a model is made of, as recipes name it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from understudy.cli.model_names import Built, Classes, ModelName, Size, build_named
from understudy.cli.output import AsJson, columns, write, write_json
from understudy.errors import InputError


def list_layers(
    model: ModelName,
    size: Size = None,
    classes: Classes = None,
    depth: Annotated[
        int | None, typer.Option("--depth", metavar="N", min=1, help="List only layers this deep or less.")
    ] = None,
    pair: Annotated[
        str | None,
        typer.Option("--pair", metavar="TEACHER", help="Show instead which layers of a teacher belong to the model's."),
    ] = None,
    units: Annotated[
        bool, typer.Option("--units", help="Show instead the units that `transfer` freezes and slows down together.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List a model's layers: the path to write in a recipe, the type, the shape of its output, its parameters.

    Example: [bold]understudy layers torchvision:resnet18 --size 3,32,32 --depth 2[/bold]

    The pairs that a method takes whose layers are [bold]auto[/bold]:
    [bold]understudy layers --pair torchvision:resnet50 torchvision:mobilenet_v2[/bold]
    """
    from understudy.sources.layers import layers

    built = build_named(model, size=size, classes=classes)
    if pair is not None:
        _show_pairs(built, build_named(pair, size=size, classes=classes), as_json)
        return
    if units:
        _show_units(built, as_json)
        return
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


def _show_units(built: Built, as_json: bool) -> None:
    from understudy.transfer import units_of

    sizes = {name: parameter.numel() for name, parameter in built.module.named_parameters()}
    units = units_of(built.module)
    if as_json:
        write_json({"schema": 1, "model": built.name, "units": [asdict(unit) for unit in units]})
        return
    rows = [
        (str(number), unit.name, f"{sum(sizes[name] for name in unit.parameters):,}")
        for number, unit in enumerate(units, 1)
    ]
    write(columns(rows, headers=("unit", "begins with", "parameters"), right=(0, 2)))


def _show_pairs(student: Built, teacher: Built, as_json: bool) -> None:
    from understudy.batch import Batch
    from understudy.distiller import pairs_of
    from understudy.sources.architecture import shown
    from understudy.sources.layers import layers
    from understudy.tasks import Classification

    taken, given = shown(student.inputs), shown(teacher.inputs)
    if taken != given:
        raise InputError(
            f"{student.name} is built for inputs of {taken}, {teacher.name} for {given}; expected the same for both. "
            "Give both the same with --size C,H,W"
        )
    found = pairs_of(student.module, teacher.module, Batch(student.inputs), Classification())
    shapes = [
        {layer.path: layer.output_shape for layer in layers(m, student.inputs)}
        for m in (student.module, teacher.module)
    ]
    roles = {"stage": found.stages, "penultimate": found.penultimate, "classifier": found.classifier}
    rows = [
        {
            "role": role,
            "student_layer": own,
            "student_shape": shapes[0][own],
            "teacher_layer": other,
            "teacher_shape": shapes[1][other],
            "adapter": _adapter(role, shapes[0][own], shapes[1][other]),
        }
        for role, pairs in roles.items()
        for own, other in pairs
    ]
    if as_json:
        write_json({"schema": 1, "student": student.name, "teacher": teacher.name, "pairs": rows})
        return
    table = [
        (
            row["role"],
            row["student_layer"],
            _shape(row["student_shape"]),
            row["teacher_layer"],
            _shape(row["teacher_shape"]),
            row["adapter"],
        )
        for row in rows
    ]
    write(columns(table, headers=("", "student's layer", "output", "teacher's layer", "output", "joined by")))
    if not rows:
        write("\nNo layers belong together; name them with student_layer and teacher_layer")


def _adapter(role: str, student: Any, teacher: Any) -> str:
    """What a hint would put between two layers, in words; penultimate features are read as vectors, classifiers not."""
    from torch import nn

    from understudy.adapters import SpatialAdapter, adapter_for
    from understudy.feature_method import common_form, shape_read

    if role == "classifier":
        return "nothing: its weight is read"
    form = common_form("vector" if role == "penultimate" else "any", student, teacher)
    student, teacher = shape_read(form, student), shape_read(form, teacher)
    try:
        adapter = adapter_for(student, teacher)
    except InputError:
        return "nothing: only a method that reads both as vectors takes them"
    if isinstance(adapter, nn.Linear):
        return f"linear {adapter.in_features} → {adapter.out_features}"
    if not isinstance(adapter, SpatialAdapter):
        return "nothing, they are alike"
    convolution, resize = adapter.project, f"resize to {adapter.size[0]}×{adapter.size[1]}"
    parts = [f"1×1 convolution {student[1]} → {teacher[1]}"] if isinstance(convolution, nn.Conv2d) else []
    return ", ".join([*parts, resize] if student[2:] != teacher[2:] else parts)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "×".join(map(str, shape)) if shape is not None else "-"
