"""``understudy recommend``: which student to train."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.cli.failures import tell
from understudy.cli.model_names import Built, Classes, Size, build_named
from understudy.cli.output import AsJson, columns, write, write_json
from understudy.targets import parse_target, shown_cost

if TYPE_CHECKING:
    from understudy.recommend import Option, Recommendation


def recommend_student(
    teacher: Annotated[
        str, typer.Option("--teacher", metavar="MODEL", help="The teacher, as `understudy layers` takes a model.")
    ],
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="LIMITS",
            help="What the student may cost: latency<2ms, params<1M, bytes<4MB, macs<100M, or several with commas.",
        ),
    ] = None,
    size: Size = None,
    classes: Classes = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="SOURCE", help="Take the size and the classes of this set instead."),
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=1.0, help="How long it may take, roughly.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Recommend students for a teacher: their costs, measured here; why; and the lines of a recipe for the first one.

    Example: [bold]understudy recommend --teacher torchvision:resnet50 --target "latency<10ms"[/bold]

    Nothing is trained, and nothing is downloaded: how good a student will be is a promise, by what is published of its
    architecture and rules of thumb, whose sources are named.
    """
    limits = parse_target(target) if target is not None else ()
    built = _built(teacher, size, classes, data)
    from understudy.recommend import recommend

    tell(f"measuring candidates for up to {seconds:g} s")
    found = recommend(
        built.module, built.spec, inputs=built.inputs, classes=len(built.classes), limits=limits, seconds=seconds
    )
    if as_json:
        write_json({"schema": 1, "model": teacher, **asdict(found)})
    else:
        write(_page(found, teacher))


def _built(teacher: str, size: str | None, classes: int | None, data: str | None) -> Built:
    if data is None:
        return build_named(teacher, size=size, classes=classes)
    from understudy.sources.data import DataSpec, load_data
    from understudy.sources.loader import Loader
    from understudy.tasks import Classification

    loaded = load_data(DataSpec(source=data), task=Classification())
    inputs = next(iter(Loader(loaded.validation, batch_size=2, shuffle=False))).inputs
    return build_named(teacher, size=",".join(map(str, inputs.shape[1:])), classes=len(loaded.classes))


def _page(found: Recommendation, teacher: str) -> str:
    target = ", ".join(limit.written for limit in found.limits) or "less than the teacher"
    parts = [f"Students for {teacher} within {target} ({found.conditions}):", ""]
    rows = [(found.teacher, teacher, "the teacher"), *((option, option.name, option.why) for option in found.options)]
    parts.append(_table(rows))
    if not found.options:
        parts += ["", "None of the candidates meets the target."]
    if found.outside:
        parts += ["", "Nearest outside the target, and what would have to be done beside:", ""]
        parts.append(_table([(option, option.name, option.why) for option in found.outside]))
    for said in found.advice:
        parts += ["", said]
    if found.recipe:
        parts += ["", "Stages for the first one, to paste behind the teacher's:", "", found.recipe.rstrip()]
    parts += ["", _left_out(found)]
    return "\n".join(parts)


def _table(rows: list[tuple[Option, str, str]]) -> str:
    cells: list[tuple[Any, ...]] = [
        (
            name,
            shown_cost("params", option.parameters),
            shown_cost("macs", option.macs),
            shown_cost("bytes", option.size_bytes),
            shown_cost("latency", option.latency_ms),
            why,
        )
        for option, name, why in rows
    ]
    return columns(cells, headers=("network", "params", "MACs", "bytes", "latency", "why"), right=(1, 2, 3, 4))


def _left_out(found: Recommendation) -> str:
    parts = [f"{found.too_large} architectures were left out by their published costs"] if found.too_large else []
    if found.unreached:
        parts.append(f"{found.unreached} were not reached in the time (--seconds)")
    parts += [f"{name} cannot be built: {reason}" for name, reason in found.failed.items()]
    return f"{'; '.join([*parts, f'it took {found.seconds:.0f} s'])}."
