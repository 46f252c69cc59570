"""``understudy compress``: from a trained model to the file to deploy, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from understudy.cli.failures import tell
from understudy.cli.init import TASK_NAMES, known_task
from understudy.cli.model_names import model_fields, trained_fields
from understudy.cli.output import AsJson, write
from understudy.cli.results import show_results
from understudy.cli.run import RunFolder, is_main_process, leave_recipe, run_file
from understudy.errors import InputError, RunError

FORMATS = {"onnx": "onnxscript", "openvino": "openvino", "executorch": "executorch"}
"""What files are written by default, by the library that each needs."""


def compress_model(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A trained model: a saved one's directory, RUN#STAGE, torchvision:NAME."),
    ],
    data: Annotated[str, typer.Option("--data", metavar="SOURCE", help="A folder, a file, a hub id, sklearn/digits.")],
    target: Annotated[
        str | None, typer.Option("--target", help="What the file may cost, such as 'latency<2ms, size<4MB'.")
    ] = None,
    max_drop: Annotated[
        float, typer.Option("--max-drop", min=0.0, help="Points of accuracy that the file may be below the model.")
    ] = 1.0,
    student: Annotated[
        str | None, typer.Option("--student", help="Another network to distill the model into, as a further candidate.")
    ] = None,
    shares: Annotated[
        str, typer.Option("--shares", help="Shares of the multiply-accumulates that pruned candidates keep.")
    ] = "0.5,0.25",
    epochs: Annotated[float, typer.Option("--epochs", help="Epochs of each training.")] = 5.0,
    task: Annotated[str, typer.Option("--task", help=f"{', '.join(TASK_NAMES)}.")] = TASK_NAMES[0],
    control: Annotated[
        bool, typer.Option("--control/--no-control", help="Train each candidate without the teacher too.")
    ] = True,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.01, help="How long each file is timed, in each way to run it.")
    ] = 1.0,
    out: RunFolder = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print the recipe, and run nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compress a trained model: prune, distill, quantize, export, and choose the best file within the target.

    It is a recipe like any other: it lies in the run's directory, and --plan shows it. The same command goes on where
    it was interrupted.

    Example: [bold]understudy compress runs/demo#teacher --data sklearn/digits --target "latency<1ms"[/bold]
    """
    from understudy.recipe.compressing import Compression, compression_recipe
    from understudy.targets import parse_target

    if target is not None:
        parse_target(target)  # what cannot be read is said before anything is trained
    trained = trained_fields(model)
    recurrent = _is_recurrent(trained)
    asked = Compression(
        model=trained,
        data=data,
        task=known_task(task),
        student=model_fields(student) if student is not None else None,
        shares=() if recurrent else _shares(shares),
        epochs=epochs,
        views=None,
        max_drop=max_drop,
        target=target,
        formats=_formats(),
        recurrent=recurrent,
        control=control,
        seconds=seconds,
    )
    text = compression_recipe(asked, name="compress")
    if plan:
        write(text)
        return
    directory = out if out is not None else Path("runs") / "compress"
    directory = run_file(leave_recipe(text, directory), [], directory)
    if is_main_process():
        show_results(directory, as_json=as_json)
        _tell_choice(directory)


def _is_recurrent(model: dict[str, Any]) -> bool:
    """Whether a saved model has recurrent layers; says then what is not done with it."""
    if model["source"] != "artifact":
        return False
    from torch import nn

    from understudy.sources.artifact import load_artifact

    layers = load_artifact(model["path"]).module.modules()
    found = any(isinstance(layer, nn.RNNBase) for layer in layers)
    if found:
        tell(
            "the model has recurrent layers: it is not pruned, and its int8 files are made from the float ones "
            "(dynamic quantization, docs/int8.md); a --student may be any network"
        )
    return found


def _shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise InputError(f"--shares {text!r}: expected numbers between 0 and 1, such as 0.5,0.25") from error


def _formats() -> tuple[str, ...]:
    """The files that can be written here."""
    from understudy.extras import is_installed

    found = tuple(name for name, library in FORMATS.items() if is_installed(library))
    if not found:
        raise InputError(
            "none of the libraries that write files to deploy is installed; install some with pip install "
            "'understudy[export]'"
        )
    for name in FORMATS.keys() - set(found):
        tell(f"{FORMATS[name]} is not installed, so no {name} files are written")
    return found


def _tell_choice(directory: Path) -> None:
    """Say which file it is; an error where none keeps to what was asked."""
    from understudy.measure.deployment import RECORD, Deployment
    from understudy.recipe.compressing import DEPLOYMENT

    folder = next((directory / "stages" / DEPLOYMENT).glob("seed-*"))
    found = Deployment.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
    assert found.choice is not None  # the stage fails where there is none
    assert found.file is not None
    for note in found.choice.notes:
        tell(note)
    said = f"{found.choice.text}\nThe file: {folder / found.file}"
    if not (found.choice.kept and found.choice.met):
        raise RunError(
            f"{said}\nNothing is thrown away: all candidates are in {directory}, and the same command with a wider "
            "--target or --max-drop, more --epochs or smaller --shares goes on from there"
        )
    tell(said)
