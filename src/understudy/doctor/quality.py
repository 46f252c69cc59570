"""Is the teacher any good on the user's own data, and if not, why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from understudy.batch import IGNORE_INDEX
from understudy.distiller import Distiller
from understudy.doctor.causes import Cause, normalised, parameter_counts, permuted, swapped
from understudy.doctor.evidence import (
    Answers,
    Observation,
    comparable,
    error_of,
    few,
    head,
    observe,
    read,
    standard_error,
    student_answers,
    teacher_answers,
    worth,
)
from understudy.doctor.findings import Finding, raise_errors
from understudy.doctor.freezing import check_freezing
from understudy.doctor.numbers import check_numbers
from understudy.doctor.samples import MEANINGLESS, check_rows
from understudy.doctor.untouched import untouched
from understudy.errors import InputError
from understudy.teachers import stateful_teachers

VALIDATION = "validation"
"""What validation samples are called in findings."""
WEAK = 0.2
"""Part of the way from guessing to perfection under which a teacher is called weak."""
_CLEARLY = 0.05
"""A teacher whose bits or perplexity are by this share above those of the control is worse beyond doubt."""


def check_teacher(
    distiller: Distiller,
    val: Iterable[Any],
    *,
    train: Iterable[Any] | None = None,
    control_metric: float | None = None,
    classes: Sequence[str] | None = None,
    batches: int = 32,
) -> list[Finding]:
    """Examine the teacher before the first step, and stop when learning from it would be worthless.

    Args:
        distiller: the set-up that is about to be trained.
        val: labelled validation data, the user's own.
        train: the training batches: a teacher that knows no others, such as a table of pseudo-labels, is judged on
            their labels.
        control_metric: what the student reached without the teacher on the same data, in the task's headline
            metric; None when that is not known yet.
        classes: names of the classes, to name them in findings.
        batches: how many validation batches to look at.

    Returns:
        Warnings and notes, if any.

    Raises:
        InputError: naming every error.
    """
    if distiller.teacher is None:
        return []
    classes = None if classes is None else distiller.task.choices(classes)
    with untouched(distiller, val, train):
        where, observations = _asked(distiller, val, train, batches)
        findings = [
            *check_freezing(distiller, head(observations[0].batch, few(distiller))),
            *check_rows(distiller, observations),
        ]
        if comparable(observations[0]) and not any(finding.check in MEANINGLESS for finding in findings):
            against = control_metric if where == VALIDATION else None
            findings += check_quality(distiller, observations, where=where, control_metric=against, classes=classes)
    return raise_errors(findings)


def _asked(
    distiller: Distiller, val: Iterable[Any], train: Iterable[Any] | None, batches: int
) -> tuple[str, list[Observation]]:
    """The answers to validation batches, or else to training batches; and what the samples are called."""
    try:
        return VALIDATION, observe(distiller, read(distiller, val, batches))
    except InputError:
        if train is None:
            raise
        return "training", observe(distiller, read(distiller, train, batches))


def check_quality(
    distiller: Distiller,
    observations: Sequence[Observation],
    *,
    where: str = VALIDATION,
    control_metric: float | None = None,
    classes: Sequence[str] | None = None,
) -> list[Finding]:
    """A teacher at chance, worse than the control, permuted, shown the wrong scale, or swapped with the student.

    Args:
        distiller: the set-up.
        observations: labelled batches with the answers of both networks.
        where: what the samples are called in findings.
        control_metric: see :func:`check_teacher`.
        classes: names of the classes.
    """
    if stateful_teachers(distiller.teacher):
        return [_follows()]
    if distiller.task.answers != "classes":
        judged = observations if distiller.task.labelled else []  # nobody knows what is true of the others
        found = check_numbers(distiller, judged, where=where, control_metric=control_metric) if judged else []
        return found + _smaller_than_student(distiller)
    teacher = teacher_answers(distiller.task, observations)
    student = student_answers(distiller.task, observations)
    if not teacher.judgeable:
        return [_unjudged(teacher, where)]
    guesses = [
        permuted(teacher, classes),
        normalised(distiller, observations),
        swapped(distiller, student, teacher),
    ]
    causes = [guess for guess in guesses if guess is not None]
    if causes:
        return [_explained(max(causes, key=_by_likelihood), teacher, where)]
    if teacher.at_chance:
        return [_at_chance(teacher, where)]
    findings = _no_better_than_constant(teacher, where) or _weak(teacher, where)
    if control_metric is not None:
        findings += _against_control(distiller, observations, control_metric, where)
    return findings + _smaller_than_student(distiller)


def teacher_metric(distiller: Distiller, observations: Sequence[Observation]) -> float:
    """The task's headline metric of the teacher on labelled positions."""
    pairs = [(seen.teacher, seen.batch) for seen in observations if seen.teacher is not None]
    metric = distiller.task.metrics(pairs[0][0].logits.shape[-1])[distiller.task.metric].to(pairs[0][0].logits.device)
    for knowledge, batch in pairs:
        if batch.targets is not None:
            targets = batch.targets.masked_fill(~batch.labelled, IGNORE_INDEX)
            distiller.task.count(metric, knowledge.logits.flatten(0, -2), targets.flatten())
    return float(metric.compute())


def _by_likelihood(cause: Cause) -> tuple[bool, float]:
    """What would make this teacher good explains more than a student that happens to be better."""
    return cause.check != "swapped", cause.accuracy


def _explained(cause: Cause, teacher: Answers, where: str) -> Finding:
    # Scaling by the data's own statistics can help an honest teacher a little; a lot is a fault.
    certain = teacher.at_chance or cause.check != "input_normalisation" or cause.accuracy - teacher.accuracy > 0.2
    return Finding(
        check=cause.check,
        severity="error" if certain else "warning",
        message=cause.message,
        seen=f"{cause.seen} ({where})",
        remedy=cause.remedy,
    )


def _at_chance(teacher: Answers, where: str) -> Finding:
    return Finding(
        check="teacher_quality",
        severity="error",
        message="the teacher guesses; expected one that is clearly better than chance on this data",
        seen=f"{teacher.accuracy:.1%} right on {len(teacher)} labelled samples ({where}), chance is "
        f"{teacher.chance:.1%}; another order of classes or scale of inputs does not explain it",
        remedy="check that its weights were loaded, that it was trained on these classes, and that its answers do not "
        "belong to other samples",
    )


def _weak(teacher: Answers, where: str) -> list[Finding]:
    if teacher.skill >= WEAK:
        return []
    return [
        Finding(
            check="teacher_quality",
            severity="warning",
            message="the teacher is hardly better than guessing; expected one that is worth learning from",
            seen=f"{teacher.accuracy:.1%} right on {len(teacher)} labelled samples ({where}), chance is "
            f"{teacher.chance:.1%}",
            remedy="check that its weights were loaded, or train it longer first; fine if the task is that hard",
        )
    ]


def _no_better_than_constant(teacher: Answers, where: str) -> list[Finding]:
    """With rare classes, answering the commonest one at all times looks good without being so."""
    shares = [
        column.bincount(minlength=teacher.classes) / len(teacher) for column in (teacher.predicted, teacher.labels)
    ]
    by_luck = float((shares[0] * shares[1]).sum())
    if teacher.accuracy > by_luck + 2.0 * standard_error(by_luck, len(teacher)):
        return []
    return [
        Finding(
            check="teacher_quality",
            severity="warning",
            message="the teacher's answers have nothing to do with the labels; expected better than its own habits",
            seen=f"{teacher.accuracy:.1%} right on {len(teacher)} samples ({where}); answering as often as it does, "
            f"but blindly, gives {by_luck:.1%}",
            remedy="look at its answers on the rare classes, or train it on balanced data first",
        )
    ]


def _against_control(
    distiller: Distiller, observations: Sequence[Observation], control_metric: float, where: str
) -> list[Finding]:
    if distiller.task.lower_is_better and any(seen.partial for seen in observations):
        return []  # how surprised it would be by what it did not tell is not known
    reached, lower = teacher_metric(distiller, observations), distiller.task.lower_is_better
    behind = reached - control_metric if lower else control_metric - reached
    if behind <= 0:
        return []
    labels = teacher_answers(distiller.task, observations).labels
    count, worth_of = len(labels), worth(labels, distiller.task.metric)
    if lower:
        clear = behind > _CLEARLY * control_metric
    else:
        clear = behind > 2.0 * math.hypot(error_of(reached, worth_of), error_of(control_metric, worth_of))
    return [
        Finding(
            check="teacher_quality",
            severity="error" if clear else "warning",
            message="the teacher is worse than the student trained without it; expected a better one",
            seen=f"{distiller.task.metric} {reached:.4f} against {control_metric:.4f} of the control ({where}, "
            f"{count} samples)",
            remedy="train the teacher longer, choose a bigger one, or do without",
        )
    ]


def _smaller_than_student(distiller: Distiller) -> list[Finding]:
    student, teacher = parameter_counts(distiller)
    if not 0 < 2 * teacher < student:
        return []
    return [
        Finding(
            check="swapped",
            severity="note",
            message="the teacher is much smaller than the student; expected the other way round",
            seen=f"{teacher:,} parameters against the student's {student:,}",
            remedy="if they are swapped, pass them as Distiller(student, teacher, …); otherwise nothing",
        )
    ]


def _follows() -> Finding:
    return Finding(
        check="teacher_quality",
        severity="note",
        message="the teacher changes with the student, so how good it is cannot be known before",
        seen="a teacher that begins as the untrained student, or learns beside it",
        remedy="nothing; the gain over the control tells what it was worth",
    )


def _unjudged(teacher: Answers, where: str) -> Finding:
    return Finding(
        check="teacher_quality",
        severity="note",
        message="nobody knows how good the teacher is; expected 20 or more labelled samples of several classes",
        seen=f"{len(teacher)} labelled samples of {len(teacher.labels.unique())} classes ({where})",
        remedy="pass `val=` with labelled, shuffled data",
    )
