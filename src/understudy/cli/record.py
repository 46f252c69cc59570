"""``understudy record``: ask a recipe's teachers once, and keep their answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.cli.output import AsJson, columns, write, write_json
from understudy.cli.run import Overrides, RecipeFile, RunFolder, is_main_process, run_file
from understudy.errors import InputError

if TYPE_CHECKING:
    from understudy.recipe.schema import Recipe


def record_recipe(
    recipe: RecipeFile,
    overrides: Overrides = None,
    out: RunFolder = None,
    extend: Annotated[
        bool, typer.Option("--extend", help="Let a recording that is there grow by views or samples.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Record what a recipe's teachers answer: its record stages and what they need, and no others.

    What is recorded already is not asked again. Without --extend, a recording whose stage has changed is set aside
    and made anew. [bold]understudy run[/bold] with the same recipe goes on from here.

    Example: [bold]understudy record recipe.yaml --set stages.answers.count=8 --extend[/bold]
    """
    directory = run_file(recipe, overrides or [], out, only=_recording_stages, extend=extend)
    if is_main_process():
        recordings = _recordings(directory)
        if as_json:
            write_json({"schema": 1, "run": str(directory), "recordings": recordings})
        else:
            write(_table(recordings))


def _recording_stages(recipe: Recipe) -> list[str]:
    """Names of the stages that record.

    Raises:
        InputError: when there is none, with the lines to add.
    """
    from understudy.pipeline.stages import Record

    names = [stage.name for stage in recipe.stages if isinstance(stage, Record)]
    if not names:
        raise InputError(f"{recipe.name} has no `record` stage, so there is nothing to record. {_to_add(recipe)}")
    return names


def _to_add(recipe: Recipe) -> str:
    """The lines that the recipe lacks, about its own teacher and student where it has them."""
    from understudy.pipeline.stages import Distill
    from understudy.pipeline.teaching import teacher_names

    asked = [(stage, *teacher_names(stage.teacher)) for stage in recipe.stages if isinstance(stage, Distill)]
    student, teacher = next(((each[0], each[1]) for each in asked if len(each) == 2), (None, "teacher"))
    name = "answers" if all(stage.name != "answers" for stage in recipe.stages) else "recorded"
    changed = student.views.model_dump(exclude_defaults=True) if student is not None and student.views else None
    views = ", ".join(f"{key}: {str(value).lower()}" for key, value in (changed or {"shift": 1}).items())
    return (
        f"Add one before the stage that learns from it, and name it there instead of {teacher!r}:\n\n"
        f"  - kind: record\n    name: {name}\n    teacher: {teacher}\n    views: {{{views}}}\n    count: 8\n\n"
        f"  - kind: distill\n    name: {student.name if student is not None else 'student'}\n    teacher: {name}"
    )


def _recordings(directory: Path) -> list[dict[str, Any]]:
    """What the recording stages of a run say of themselves."""
    from understudy.report import read_run

    return [
        {
            "stage": stage.name,
            "seed": stage.seed,
            "path": str(stage.directory / stage.stage.recording.path),
            "teacher": stage.stage.teacher,
            **stage.stage.recording.model_dump(exclude={"path"}),
            "seconds": stage.stage.seconds,
        }
        for stage in read_run(directory).stages
        if stage.stage is not None and stage.stage.recording is not None
    ]


def _table(recordings: list[dict[str, Any]]) -> str:
    from understudy.report.wording import duration, size

    rows = [
        (
            found["stage"],
            found["seed"],
            ", ".join(found["teacher"]),
            f"{found['samples']:,}",
            found["views"],
            found["keep"]["dtype"] + (f", top {found['keep']['top']}" if found["keep"]["top"] else ""),
            size(found["bytes"]),
            duration(found["seconds"]),
            found["path"],
        )
        for found in recordings
    ]
    headers = ("stage", "seed", "teacher", "samples", "views", "kept as", "size", "time", "recording")
    return columns(rows, headers=headers, right=(1, 3, 4, 6, 7))
