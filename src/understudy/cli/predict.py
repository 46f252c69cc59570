"""``understudy predict``: what a model says about images, arrays and texts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.cli.failures import tell
from understudy.cli.model_names import parsed_size, place_of
from understudy.cli.output import write
from understudy.errors import InputError, RunError, UnderstudyError, nearest
from understudy.files import neighbours

if TYPE_CHECKING:
    from understudy.serving import Answer, Predictor
    from understudy.serving.samples import Piece

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".npy", ".json")
"""Of the files that are taken out of a folder."""

Artifact = Annotated[
    str, typer.Argument(metavar="ARTIFACT", help="A saved model's directory, RUN#STAGE, or an exported file.")
]
Runtime = Annotated[
    str | None, typer.Option("--runtime", metavar="NAME", help="What executes an exported file, such as openvino.")
]
FileSize = Annotated[
    str | None,
    typer.Option("--size", metavar="C,H,W", help="Shape of one input, for a file from elsewhere that does not say it."),
]


def predict_inputs(
    artifact: Artifact,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Images, .npy and .json files, folders of them, texts (one on each line of a file), or - for stdin.",
        ),
    ],
    top: Annotated[int, typer.Option("--top", metavar="K", min=1, help="How many classes to tell of each.")] = 3,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Inputs that are computed together.")] = 32,
    runtime: Runtime = None,
    size: FileSize = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object per line.")] = False,
) -> None:
    """Ask a model, one line for each input.

    Images are made as small as the model's, exactly as in its training. An input that cannot be read is named, the
    others are still answered, and the exit code is 1.

    Example: [bold]understudy predict runs/demo#student photo.jpg more/ --top 5[/bold]
    """
    predictor = opened(artifact, runtime, size)
    answered, refused = 0, 0
    for name, found in _answers(predictor, inputs, top, batch):
        if isinstance(found, UnderstudyError):
            refused += 1
            tell(f"Error: {found}")
        else:
            answered += 1
        if as_json:
            told = {"error": str(found)} if isinstance(found, UnderstudyError) else found.as_json()
            write(json.dumps({"input": name, **told}, ensure_ascii=False))
        elif not isinstance(found, UnderstudyError):
            write(f"{name}: {found}")
    if refused:
        raise RunError(f"{refused} of {refused + answered} inputs could not be answered")


def opened(artifact: str, runtime: str | None, size: str | None) -> Predictor:
    """The model that a word names, ready to be asked.

    Raises:
        InputError: when there is none, or it cannot be run.
    """
    from understudy.serving import open_predictor

    shape = parsed_size(size) if size is not None else None
    stage = artifact.rpartition("#")[2] if "#" in artifact else None
    return open_predictor(place_of(artifact), runtime=runtime, size=shape, name=stage)


def _answers(
    predictor: Predictor, inputs: Iterable[str], top: int, batch: int
) -> Iterator[tuple[str, Answer | UnderstudyError]]:
    """Names and answers in the order of the inputs; what could not be read has its error for an answer."""
    pieces = (piece for word in inputs for name in _expanded(word) for piece in _pieces(predictor, name))
    while some := list(islice(pieces, batch)):
        read = [(name, _tried(piece)) for name, piece in some]
        samples = [found for _, found in read if not isinstance(found, InputError)]
        answers = iter(predictor.each(samples, top=top))
        for name, found in read:
            yield name, found if isinstance(found, InputError) else _about(name, next(answers))


def _expanded(word: str) -> list[str]:
    """The files that are meant: those of a folder in order, or the word itself."""
    folder = Path(word)
    if not folder.is_dir():
        return [word]
    files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(map(str, files)) or [word]


def _pieces(predictor: Predictor, name: str) -> list[tuple[str, Piece | InputError]]:
    from understudy.serving.uploads import kind_of

    try:
        data = _content(name)
        return [(piece.name, piece) for piece in predictor.form.pieces(data, kind_of(data), whose=name)]
    except InputError as error:
        return [(name, error)]


def _content(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read()
    path = Path(name)
    if path.is_dir():
        raise InputError(f"{name} is a folder without images, .npy or .json files")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{name} is not there{nearest(path.name, neighbours(path))}") from error
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}") from error


def _about(name: str, answer: Answer | UnderstudyError) -> Answer | UnderstudyError:
    if not isinstance(answer, UnderstudyError):
        return answer
    cause = f" ({answer.__cause__})" if answer.__cause__ is not None else ""
    return InputError(f"{name}: {answer}{cause}")


def _tried(piece: Piece | InputError) -> Any:
    try:
        return piece if isinstance(piece, InputError) else piece.make()
    except InputError as error:
        return error
