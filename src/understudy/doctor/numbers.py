"""Is a teacher that answers numbers any good on the user's own data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from understudy.distiller import Distiller
from understudy.doctor.evidence import Observation
from understudy.doctor.findings import Finding
from understudy.functional.association import pearson_correlation
from understudy.tasks.numbers import explained_variance

FEW = 20
"""Labelled samples with fewer of which nothing is said."""
WEAK = 0.1
"""R² under which a teacher is called weak."""
RELATED = 0.7
"""Correlation from which on wrong numbers are the right ones in another unit."""
CLEARLY = 0.05
"""By which share of the control's error, or by how much of a correlation or of R², a teacher is worse beyond doubt."""


def check_numbers(
    distiller: Distiller, observations: Sequence[Observation], *, where: str, control_metric: float | None = None
) -> list[Finding]:
    """A teacher that knows no more than the mean, counts in another unit, or is worse than the control.

    Args:
        distiller: the set-up.
        observations: batches with the answers of both networks.
        where: what the samples are called in findings.
        control_metric: what the student reached without the teacher, in the task's headline metric.
    """
    pairs = [
        distiller.task.flat(seen.teacher, seen.batch)
        for seen in observations
        if seen.teacher is not None and seen.batch.targets is not None
    ]
    if sum(len(targets) for _, targets in pairs) < FEW:
        return [_unjudged(sum(len(targets) for _, targets in pairs), where)]
    answers, targets = (torch.cat([pair[side].float().cpu() for pair in pairs]) for side in (0, 1))
    explained = float(explained_variance(answers, targets))
    if explained <= 0.0:
        return [_no_better_than_the_mean(answers, targets, explained, where)]
    findings = [_weak(explained, len(targets), where)] if explained < WEAK else []
    if control_metric is not None:
        findings += _against_control(distiller, answers, targets, control_metric, where)
    return findings


def _no_better_than_the_mean(answers: Tensor, targets: Tensor, explained: float, where: str) -> Finding:
    related = float(pearson_correlation(answers.T, targets.T).mean())
    seen = f"R² {explained:.3g} on {len(targets)} labelled samples ({where}), correlation {related:.2f}"
    if related > RELATED:
        answered, true = ((float(values.mean()), float(values.std())) for values in (answers, targets))
        return Finding(
            check="number_scale",
            severity="error",
            message="the teacher's numbers are in another unit than the data's; expected the same one",
            seen=f"{seen}; it answers {answered[0]:.4g} ± {answered[1]:.4g}, the data {true[0]:.4g} ± {true[1]:.4g}",
            remedy="convert the data's numbers, or let the teacher's last layer answer in their unit",
        )
    return Finding(
        check="teacher_quality",
        severity="error",
        message="the teacher knows no more than the mean of the data; expected one that explains more",
        seen=seen,
        remedy="check that its weights were loaded, that it was trained on these numbers, and that its answers do not "
        "belong to other samples",
    )


def _weak(explained: float, count: int, where: str) -> Finding:
    return Finding(
        check="teacher_quality",
        severity="warning",
        message="the teacher is hardly better than the mean of the data; expected one that is worth learning from",
        seen=f"R² {explained:.3g} on {count} labelled samples ({where})",
        remedy="check that its weights were loaded, or train it longer first; fine if the task is that hard",
    )


def _against_control(
    distiller: Distiller, answers: Tensor, targets: Tensor, control_metric: float, where: str
) -> list[Finding]:
    task = distiller.task
    metric = task.metrics(targets.shape[-1])[task.metric]
    metric.update(answers, targets)
    reached = float(metric.compute())
    behind = reached - control_metric if task.lower_is_better else control_metric - reached
    if behind <= 0.0:
        return []
    clear = behind > (CLEARLY * control_metric if task.lower_is_better else CLEARLY)
    return [
        Finding(
            check="teacher_quality",
            severity="error" if clear else "warning",
            message="the teacher is worse than the student trained without it; expected a better one",
            seen=f"{task.metric} {reached:.4f} against {control_metric:.4f} of the control ({where}, {len(targets)} "
            "samples)",
            remedy="train the teacher longer, choose a bigger one, or do without",
        )
    ]


def _unjudged(count: int, where: str) -> Finding:
    return Finding(
        check="teacher_quality",
        severity="note",
        message=f"nobody knows how good the teacher is; expected {FEW} or more labelled samples",
        seen=f"{count} labelled samples ({where})",
        remedy="pass `val=` with labelled data",
    )
