"""Teachers that a stage asks: live ones, and what a `record` stage kept of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from understudy.errors import InputError
from understudy.pipeline.directory import StageDirectory
from understudy.pipeline.elsewhere import Elsewhere
from understudy.pipeline.stage import Context, stage_of
from understudy.pipeline.students import referred
from understudy.pipeline.teaching import Teaching, teacher_names
from understudy.pipeline.training import Shown
from understudy.recorder import drawn_from
from understudy.recordings import Recording
from understudy.sources.splits import Split
from understudy.teachers import ModuleTeacher, Recorded, Teacher, Told
from understudy.views import Views

RECORDING = "recording"
"""The folder of a recording inside its stage's."""


def teachers_of(teaching: Teaching | None, context: Context) -> dict[str, Teacher]:
    """Those that a stage asks, by name.

    Args:
        teaching: who teaches; an average of the student is not among them.
        context: the run.

    Raises:
        InputError: when it is not there, damaged, or not whole.
    """
    if isinstance(teaching, Elsewhere):
        return {teaching.kind: teaching.teacher(context)}
    return {name: _left_by(name, context) for name in teacher_names(teaching)}


def _left_by(reference: str, context: Context) -> Teacher:
    """The teacher that an earlier stage leaves: its recording, or else its model."""
    folder = context.upstream[stage_of(reference)].path / RECORDING
    if folder.is_dir():
        return Recorded(folder)
    return ModuleTeacher(referred(reference, context), task=context.task)


def behind(references: tuple[str, ...], context: Context) -> list[str]:
    """The stages whose models answer: for a recording those that were recorded.

    Args:
        references: as the recipe names them.
        context: the run.
    """
    names: list[str] = []
    for reference in references:
        record = context.upstream[stage_of(reference)].record
        names += record.get("teacher", []) if RECORDING in record else [reference]
    return list(dict.fromkeys(names))


def shown_with(teachers: Mapping[str, Teacher], views: Views | None, split: Split) -> Shown:
    """How a student's samples are shown: as they were to the teachers, where those were recorded.

    Args:
        teachers: by name.
        views: what the stage itself says; None leaves it to the recording.
        split: the samples.

    Raises:
        InputError: when two recordings, or a recording and the stage, show the samples differently, or samples were
            not recorded.
    """
    shown: Shown | None = None
    for name, teacher in teachers.items():
        if isinstance(teacher, Told):
            teacher.check_answers(split.ids)
        if not isinstance(teacher, Recorded):
            continue
        mine = _shown(name, teacher.recording, split)
        if shown is not None and mine != shown:
            raise InputError(
                f"the recordings of {', '.join(map(repr, teachers))} are of different views; expected the same views, "
                "seed and number of them in all"
            )
        shown = mine
    if shown is None:
        return Shown(views)
    if views is not None and views.changes and views != shown.views:
        raise InputError(
            f"the stage's samples are to be {views.describe()}, and those that were recorded are "
            f"{(shown.views or Views()).describe()}; leave `views` out, to see what the teacher saw"
        )
    return shown


def _shown(name: str, recording: Recording, split: Split) -> Shown:
    manifest = recording.manifest
    missing = ~torch.isin(split.ids.cpu(), recording.samples.ids)
    if missing.any():
        raise InputError(
            f"{int(missing.sum()):,} of the {len(split):,} samples to train on are not in the recording {name!r} (ids "
            f"{', '.join(map(str, split.ids.cpu()[missing][:4].tolist()))}); record them too, or give this stage the "
            "recording's `subset`"
        )
    if manifest.mixing is not None and manifest.mixing != drawn_from(split):
        raise InputError(
            f"the recording {name!r} shows mixes with partners from other samples, or with other labels known, than "
            "this stage's; give both stages the same `subset`"
        )
    views = manifest.views if manifest.views.changes else None
    count = max(part.views for part in manifest.parts)
    return Shown(views, seed=manifest.view_seed if views else None, cycle=count or None)


def asked_of(references: tuple[str, ...], context: Context) -> str | None:
    """Which recordings a stage learns from, in words; None where all its teachers answer live.

    Args:
        references: its teachers, as the recipe names them.
        context: the run.
    """
    recorded = [name for name in references if RECORDING in context.upstream[stage_of(name)].record]
    return f"learnt from recorded answers, those of stage {' and '.join(recorded)}" if recorded else None


def summary(recording: Recording) -> dict[str, Any]:
    """What there is to say of a recording in its stage's record, as JSON."""
    manifest = recording.manifest
    return {
        "path": RECORDING,
        "samples": manifest.count,
        "views": max(part.views for part in manifest.parts),
        "bytes": sum(shard.path.stat().st_size for shard in recording.shards()),
        "keep": manifest.keep.model_dump(mode="json"),
        "manifest": manifest.digest(),
    }


def is_whole(directory: StageDirectory) -> bool:
    """Whether a `record` stage's recording is all there.

    Args:
        directory: of the stage, finished.

    Raises:
        InputError: when it cannot be read, or is not the one that the stage has made.
    """
    recording = Recording(directory.path / RECORDING)
    made = directory.record.get(RECORDING, {}).get("manifest", recording.manifest.digest())
    if recording.manifest.digest() != made:
        raise InputError(f"{recording.folder} is not the recording that the stage has made")
    return not recording.holes()
