"""The control: the same student without what a stage adds; how it is trained, and what is said of the two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from understudy.distiller import Distiller
from understudy.doctor import Finding, check_gain, check_teacher, to_json
from understudy.engine.training import Training
from understudy.objective import Method, Objective
from understudy.pipeline.stage import Context
from understudy.pipeline.students import Beginning
from understudy.pipeline.training import Shown, evaluation_loader, train_model
from understudy.sources.loader import Loader
from understudy.sources.splits import Split

CONTROL = "control"
"""The folder of the control inside the stage's, and its name in the record."""


def train_control(
    context: Context,
    *,
    begin: Beginning,
    terms: tuple[Method, ...],
    split: Split,
    training: Training,
    own_training: Training | None = None,
    shown: Shown,
    directory: Path | None = None,
    title: str = CONTROL,
) -> dict[str, Any]:
    """Train the same student on the labelled part of the same data, without the terms that distil.

    Args:
        context: the run.
        begin: makes its network, as it makes the student's.
        terms: of the student.
        split: what the student sees.
        training: how the student trains; the control makes as many steps.
        own_training: another training for the control.
        shown: how the samples are shown.
        directory: where it goes; the folder ``control`` of the stage's when not given.
        title: what the progress display calls it.

    Returns:
        What there is to record about the training, as JSON.
    """
    labelled = split.select(split.known.nonzero().flatten())
    return train_model(
        context,
        begin=begin,
        objective=control_objective(terms, context.task.supervised),
        teacher=None,
        split=labelled,
        training=own_training or same_budget(training, student=split, control=labelled),
        shown=shown,
        directory=directory or context.directory.path / CONTROL,
        title=title,
    )


def control_objective(terms: tuple[Method, ...], supervised: Method) -> Objective:
    """What the control learns from: the terms that do not distil.

    Where none does, the scheme is in the terms themselves (a virtual teacher), and the control goes without all.

    Args:
        terms: of the student.
        supervised: the task's own supervised loss.
    """
    if any(term.distils for term in terms):
        return Objective(terms).without_teacher(supervised)
    return Objective((supervised,))


def same_budget(training: Training, *, student: Split, control: Split) -> Training:
    """The training of a control that has fewer samples: as many steps, as many validations.

    Args:
        training: how the student trains.
        student: what the student trains on.
        control: the labelled part of it.
    """
    if len(student) == len(control):
        return training
    batches = [-(-len(split) // training.batch_size) for split in (student, control)]
    longer = batches[0] / batches[1]
    steps = training.steps or round((training.epochs or 0) * batches[0])
    return training.model_copy(
        update={"epochs": None, "steps": steps, "validate_every": training.validate_every * longer}
    )


def examination(
    context: Context, findings: list[Finding], control: dict[str, Any] | None, *, train: Loader | None = None
) -> Callable[[Distiller], None]:
    """What looks at the teacher before the student's first step.

    Args:
        context: the run.
        findings: where what it finds is put.
        control: the record of the control's training, which the teacher has to be better than.
        train: the student's batches, for a teacher that knows no others.
    """

    def examine(distiller: Distiller) -> None:
        findings.extend(
            check_teacher(
                distiller,
                evaluation_loader(context, "validation"),
                train=train,
                control_metric=control["last_metric"] if control else None,
                classes=context.data.classes,
            )
        )

    return examine


def harm(
    context: Context,
    student: dict[str, Any],
    control: dict[str, Any] | None,
    *,
    terms: tuple[Method, ...] = (),
    message: str | None = None,
    remedy: str | None = None,
) -> list[Finding]:
    """Whether a stage did harm on validation data; the report tells the gain.

    Args:
        context: the run.
        student: the record of its training.
        control: that of the control, if there is one.
        terms: of the student; those that distil are named.
        message: what to say instead of that a teacher's terms hurt.
        remedy: what to do about that.
    """
    if control is None:
        return []
    found = check_gain(
        student["last_metric"],
        control["last_metric"],
        metric=context.task.metric,
        samples=len(context.data.validation) if context.task.answers == "classes" else None,
        terms=[term.label for term in terms if term.distils],
        lower_is_better=context.task.lower_is_better,
    )
    return [
        replace(each, message=message or each.message, remedy=remedy or each.remedy)
        for each in found
        if each.severity == "warning"
    ]


def comparison_record(
    context: Context, student: dict[str, Any], control: dict[str, Any] | None, findings: list[Finding]
) -> dict[str, Any]:
    """What every stage with a student and a control records of them, after telling the findings.

    Args:
        context: the run.
        student: the record of its training.
        control: that of the control, if there is one.
        findings: what the doctor says.
    """
    for finding in findings:
        context.progress.message(str(finding))
    return {
        "models": {"student": "."} | ({CONTROL: CONTROL} if control else {}),
        "training": student,
        "control": control,
        "findings": to_json(findings),
    }
