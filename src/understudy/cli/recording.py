"""``understudy recording``: what a teacher's recorded answers are, and whether they are whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.cli.output import AsJson, columns, write, write_json
from understudy.errors import InputError, RunError

if TYPE_CHECKING:
    from understudy.recordings.inspection import Inspection, SplitAnswers

MOST_CLASSES = 12
"""Classes that the table shows, those that the teacher answered most often; the JSON has all."""


def show_recording(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A recording, or the directory of a run or a stage that has some.")
    ],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file, and compare it with the digest in its name.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what is in a recording: its samples, views and size, how good the teacher was, what it answered.

    Of several recordings the table has a line each. Exit code 1 when something is missing or damaged.

    Example: [bold]understudy recording runs/try --verify[/bold]
    """
    from understudy.recordings.inspection import find_recordings, inspect_recording

    found, wrong = [], []
    for folder in find_recordings(path):
        try:
            found.append(inspect_recording(folder, verify=verify))
        except InputError as error:
            wrong.append(str(error))
    if as_json:
        write_json({"schema": 1, "path": str(path), "recordings": [_json(each) for each in found]})
    elif found:
        write(_details(found[0]) if len(found) == 1 else _listed(found))
    wrong += [text for each in found for text in _wrong(each)]
    if wrong:
        raise RunError("\n".join(wrong))


def _wrong(found: Inspection) -> list[str]:
    """What is missing or damaged, each with its remedy."""
    from understudy.recordings.again import how_to_record

    again = f"record again, {how_to_record(found.folder)}: only what is missing is recorded"
    missing = [f"{found.folder} is not whole: {text} are missing; {again}" for text in found.missing]
    return [*missing, *(f"{text}. Delete the file and {again}" for text in found.damaged)]


def _json(found: Inspection) -> dict[str, Any]:
    manifest = found.manifest.model_dump(mode="json", exclude={"samples", "parts"})
    answers = sum(split.answers for split in found.splits)
    return {
        "path": str(found.folder),
        **manifest,
        "samples": found.manifest.count,
        "answers": answers,
        "files": found.files,
        "bytes": found.size_bytes,
        "bytes_per_answer": found.answer_bytes / answers if answers else None,
        "splits": [
            {
                "name": split.name,
                "samples": split.samples,
                "labelled": split.labelled,
                "views": split.views,
                "answers": split.answers,
                "accuracy": split.accuracy,
                "entropy": split.entropy,
                "outside_top": split.outside_top,
                "top1": list(split.top1),
            }
            for split in found.splits
        ],
        "whole": not found.missing,
        "missing": list(found.missing),
        "damaged": list(found.damaged),
        "verified": found.verified,
    }


def _listed(found: list[Inspection]) -> str:
    from understudy.report.wording import quality, size

    rows = [
        (
            each.folder,
            each.manifest.teacher,
            f"{each.manifest.count:,}",
            max(split.views for split in each.splits),
            _kept(each),
            size(each.size_bytes),
            quality("accuracy", each.splits[0].accuracy),
            _state(each),
        )
        for each in found
    ]
    headers = ("recording", "teacher", "samples", "views", "kept as", "size", "accuracy", "state")
    return columns(rows, headers=headers, right=(2, 3, 5, 6))


def _details(found: Inspection) -> str:
    from understudy.report.wording import quality, size

    manifest, answers = found.manifest, sum(split.answers for split in found.splits)
    each = f", {found.answer_bytes / answers:,.0f} bytes for each sample and view" if answers else ""
    layers = [f"{form} output of {path}" for path, form in manifest.keep.layers.items()]
    seed = f", seed {manifest.view_seed}" if manifest.views.changes else ""
    about = [
        ("recording", found.folder),
        ("teacher", manifest.teacher + (f", weights {manifest.weights[:16]}" if manifest.weights else "")),
        ("made by", f"understudy {manifest.understudy}" if manifest.understudy else "another program"),
        ("kept", ", ".join([f"{_what(found)} as {_kept(found)}", *layers])),
        ("views", f"{manifest.views.describe()}{seed}"),
        ("size", f"{size(found.size_bytes)} in {found.files} files{each}"),
        ("state", _state(found)),
    ]
    outside = f"outside top {manifest.keep.top}"
    splits = [
        (
            split.name,
            f"{split.samples:,}",
            split.views or "as they are",
            f"{split.labelled:,}",
            quality("accuracy", split.accuracy),
            "–" if split.entropy is None else f"{split.entropy:.3f} nats",
            *(["–" if split.outside_top is None else f"{100 * split.outside_top:.2f} %"] if manifest.keep.top else []),
        )
        for split in found.splits
    ]
    heads = ("split", "samples", "views", "labelled", "accuracy", "entropy", *([outside] if manifest.keep.top else []))
    histogram = ["", _histogram(found.splits, manifest.classes)] if manifest.task is None else []
    return "\n".join(
        [
            *(f"{name:<10} {value}" for name, value in about),
            "",
            columns(splits, headers=heads, right=range(1, len(heads))),
            *histogram,
        ]
    )


def _what(found: Inspection) -> str:
    count = len(found.manifest.classes)
    return f"logits of {count:,} classes" if found.manifest.task is None else f"{count:,} numbers"


def _histogram(splits: tuple[SplitAnswers, ...], classes: tuple[str, ...]) -> str:
    """How often each class was the likeliest."""
    totals = [sum(split.top1[number] for split in splits) for number in range(len(classes))]
    shown = range(len(classes))
    if len(classes) > MOST_CLASSES:
        shown = sorted(shown, key=lambda number: -totals[number])[:MOST_CLASSES]
    rows = [(classes[number], *(f"{split.top1[number]:,}" for split in splits)) for number in shown]
    heads = ("likeliest class", *(split.name for split in splits))
    more = len(classes) - len(rows)
    table = columns(rows, headers=heads, right=range(1, len(heads)))
    return f"{table}\nand {more:,} more classes, all in --json" if more else table


def _kept(found: Inspection) -> str:
    keep = found.manifest.keep
    some = f", top {keep.top}" if keep.top else f", {keep.drawn} drawn" if keep.drawn else ""
    return keep.dtype + some


def _state(found: Inspection) -> str:
    said = [*(["not whole"] if found.missing else ["whole"])]
    if found.damaged:
        count = len(found.damaged)
        said.append(f"{count} file{'s are' if count > 1 else ' is'} damaged")
    elif found.verified:
        said.append("every file is as it was written")
    return ", ".join(said)
