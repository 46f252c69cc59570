"""``understudy export``: a model as a file that other runtimes execute."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.cli.failures import tell
from understudy.cli.model_names import Built, Classes, ModelName, Size, build_named
from understudy.cli.output import AsJson, columns, write, write_json
from understudy.errors import InputError

if TYPE_CHECKING:
    from understudy.export import Exported

SPLITS = ("test", "validation")
TRANSFORMERS = "transformers"
"""The format that is a folder."""


def export_model(
    model: ModelName,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="What is written: onnx, onnx_dynamic (int8), tensorrt (ONNX for it), openvino, executorch, "
            "torch_export, or transformers (a folder for that library).",
        ),
    ] = "onnx",
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="SOURCE", help="Samples to prove the file on: a folder, a file, a hub id."),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Which split of the data: test or validation.")] = "test",
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER|FILE", help="Where it goes; a file in a folder is called model.")
    ] = Path("exported"),
    size: Size = None,
    classes: Classes = None,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="TEXT", help="Of the weights; written into the file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a model as a file for another runtime, and prove that it answers as the model does.

    The file is run in every installed runtime that takes it. One that answers otherwise is kept as NAME.unproved, and
    the verb fails. Without --data it is proved on random inputs.

    Example: [bold]understudy export runs/demo#student --data sklearn/digits --out exported[/bold]
    """
    from understudy.export.exporting import export, place_of

    if split not in SPLITS:
        raise InputError(f"--split {split!r}: expected 'test' or 'validation'")
    if format == TRANSFORMERS:
        _for_transformers(build_named(model, size=size, classes=classes), out, data, split, as_json=as_json)
        return
    place = place_of(out, format)  # pyright: ignore[reportArgumentType] - it checks
    built = build_named(model, size=size, classes=classes)
    samples, example = _samples(built, data, split)
    tell(f"writing {place}" + ("" if data else "; without --data it is proved on random inputs"))
    made = export(
        built.module,
        place,
        format=format,  # pyright: ignore[reportArgumentType]
        example=example,
        task=built.task,
        classes=built.classes,
        samples=samples,
        data=f"the {split} split of {data}",
        licence=licence,
    )
    if as_json:
        write_json({"schema": 1, "model": model, "path": str(made.path), **made.told()})
    else:
        write(_table(made, built.task.metric))


def _for_transformers(built: Built, out: Path, data: str | None, split: str, *, as_json: bool) -> None:
    from understudy.export.transformers_folder import save_for_transformers

    _, example = _samples(built, data, split)
    place = save_for_transformers(built.module, out, classes=built.classes, example=example, task=built.task)
    if as_json:
        write_json({"schema": 1, "model": built.name, "path": str(place), "files": sorted(map(str, place.iterdir()))})
    else:
        write(f"{place}: {', '.join(sorted(file.name for file in place.iterdir()))}; loaded again, it answers alike")


def _samples(built: Built, data: str | None, split: str) -> tuple[Any, Any]:
    if data is None:
        return None, built.inputs
    loader = built.loader(data, split)
    return loader, built.task.example(next(iter(loader)).inputs, 2)


def _table(made: Exported, metric: str) -> str:
    proof = made.proof
    rows = [
        ("size", f"{made.size_bytes:,} bytes"),
        ("inputs", "; ".join(f"{port.name} (batch, {', '.join(map(str, port.shape))})" for port in made.card.inputs)),
        ("operators", f"{sum(proof.operators.values())} of {len(proof.operators)} kinds, {proof.version}"),
        ("proved on", f"{proof.samples:,} samples of {proof.data}"),
    ]
    for each in proof.runtimes:
        quality = f", {metric} {each.quality[metric]:.4g}" if each.quality is not None else ""
        rows.append(
            (
                f"in {each.runtime}",
                f"logits within {each.difference:.1e} of their spread, {each.changed:.2%} of predictions "
                f"changed{quality}",
            )
        )
    rows += [(f"in {name}", f"not run: {why}") for name, why in proof.not_run.items()]
    if made.trtexec:
        rows.append(("build it with", made.trtexec))
    return columns(rows, headers=("exported", str(made.path)))
