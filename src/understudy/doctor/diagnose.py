"""All checks at once, before the first step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from understudy.batch import Batch
from understudy.distiller import Distiller
from understudy.doctor.balance import check_balance, term_gradients
from understudy.doctor.classes import check_class_count, check_class_names, check_labels
from understudy.doctor.evidence import (
    Observation,
    comparable,
    few,
    head,
    labelled_rows,
    observe,
    read,
    teacher_answers,
)
from understudy.doctor.findings import Finding, by_severity
from understudy.doctor.finite import check_inputs, check_logits, check_loss
from understudy.doctor.freezing import TeacherWatch, check_apart, check_freezing
from understudy.doctor.probabilities import check_probabilities
from understudy.doctor.quality import check_quality
from understudy.doctor.samples import MEANINGLESS, check_rows, check_samples, sees_the_batch
from understudy.doctor.softness import check_labelled, check_temperature
from understudy.doctor.students import check_modes, check_reached, check_trainable
from understudy.doctor.untouched import untouched
from understudy.errors import InputError

VALIDATION_FACTOR = 4
"""Validation batches looked at for each training batch: quality needs more samples than structure."""
GRADIENT_BATCHES = 2
"""Batches that gradients are taken on, those with the most labels."""


def diagnose(
    distiller: Distiller,
    loader: Iterable[Any],
    *,
    val: Iterable[Any] | None = None,
    classes: Sequence[str] | None = None,
    teacher_classes: Sequence[str] | None = None,
    batches: int = 8,
) -> list[Finding]:
    """Examine a distillation before it is trained: seconds now instead of a silent failure later.

    Nothing is changed: no parameter, buffer, gradient, mode or random state. Call it before the student is wrapped
    for data-parallel training.

    Args:
        distiller: student, teacher and objective.
        loader: the training batches, as the training will read them.
        val: labelled validation batches; without them the teacher is judged on the loader's labelled samples.
        classes: names of the data's classes, by index.
        teacher_classes: names of the classes that the teacher was trained on, by output.
        batches: how many training batches to look at, and four times as many validation batches; fewer when that
            takes more than a few seconds. The networks are shown at most 128 samples of each.

    Returns:
        What was found, errors first; an empty list for a healthy set-up.

    Raises:
        InputError: for a loader that is empty or can be read only once, or batches that the task cannot read.

    Example:
        >>> import torch
        >>> from understudy import Classification, CrossEntropy
        >>> batch = (torch.randn(8, 4), torch.arange(8) % 3)
        >>> frozen = torch.nn.Linear(4, 3).requires_grad_(False)
        >>> distiller = Distiller(frozen, None, CrossEntropy(), example=batch, task=Classification())
        >>> [finding.check for finding in diagnose(distiller, [batch])]
        ['student_trainable']
    """
    with untouched(distiller, loader, val):
        training = read(distiller, loader, batches)
        validation = read(distiller, val, VALIDATION_FACTOR * batches) if val is not None else None
        findings = [
            *check_class_names(classes, teacher_classes),
            *check_modes(distiller),
            *check_trainable(distiller),
            *check_labelled(distiller, training),
            *check_inputs(training),
            *check_inputs(validation or [], where="the validation data"),
        ]
        if not any(finding.check == "finite_inputs" for finding in findings):
            answers = None if classes is None else distiller.task.choices(classes)
            findings += _examine(distiller, training, validation, answers)
    return by_severity(findings)


def _examine(
    distiller: Distiller, training: list[Batch], validation: list[Batch] | None, classes: Sequence[str] | None
) -> list[Finding]:
    """Everything that needs the networks to run."""
    modes = {module: module.training for module in distiller.modules()}
    frozen = check_freezing(distiller, head(training[0], few(distiller)))
    seen = observe(distiller, training)
    outputs = seen[0].student.logits.shape[-1]
    of_classes = distiller.task.answers == "classes"
    labels = check_labels([*training, *(validation or [])], outputs) if of_classes else []
    counts = check_class_count(distiller, seen, classes) if distiller.task.answers != "vectors" else []
    shapes = [*counts, *check_rows(distiller, seen)]
    findings = [*frozen, *labels, *shapes, *check_logits(seen)]
    if shapes or any(finding.check == "finite_logits" for finding in findings):
        return findings
    if of_classes:
        findings += [*check_probabilities(distiller, seen), *check_temperature(distiller, seen)]
    if not any(finding.check in MEANINGLESS for finding in frozen):
        findings += _judge_teacher(distiller, seen, validation, classes)
    if labels:
        return findings
    for module, was_training in modes.items():
        module.training = was_training
    watch = TeacherWatch(distiller)
    findings += _train(distiller, training)
    return findings if frozen else findings + check_apart(watch.changed())


def _judge_teacher(
    distiller: Distiller, seen: list[Observation], validation: list[Batch] | None, classes: Sequence[str] | None
) -> list[Finding]:
    """Quality on validation data; on the loader's own labels when there is none, or the teacher cannot answer."""
    if not comparable(seen[0]):
        return []  # it teaches by features only, and knows other classes
    try:
        judged = observe(distiller, validation) if validation is not None else None
    except InputError:
        judged = None  # a recording of the training samples knows no others
    if judged is None:
        return check_quality(distiller, seen, where="training", classes=classes)
    positions = check_rows(distiller, judged)
    if positions:
        return positions
    findings = check_quality(distiller, judged, classes=classes)
    if distiller.task.answers != "classes":
        return findings
    here, there = teacher_answers(distiller.task, seen), teacher_answers(distiller.task, judged)
    augmented = any(each.batch.view is not None for each in seen)
    return findings + check_samples(here, there, augmented=augmented, certain=sees_the_batch(distiller.teacher))


def _train(distiller: Distiller, training: list[Batch]) -> list[Finding]:
    """Gradients as at a training step, on the batches with the most labels."""
    if not distiller.student.training:
        distiller.train()
    order = sorted(range(len(training)), key=lambda number: -labelled_rows(training[number]))
    findings, gradients = [], []
    for number in order[:GRADIENT_BATCHES]:
        batch = head(training[number], few(distiller))
        found = term_gradients(distiller, batch)
        findings += check_loss(found, batch, number)
        gradients += found
    if findings or not any(each.requires_grad for each in distiller.student.parameters()):
        return findings[:1]
    adaptive = distiller.objective.objective.balance is not None
    return [*check_reached(distiller, gradients), *check_balance(gradients, adaptive=adaptive)]
