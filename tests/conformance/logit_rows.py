"""The logits of a case as plain Python numbers, for references that are loops over positions and classes."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from conformance.case import CLASSES, Case
from understudy import IGNORE_INDEX


@dataclass(frozen=True)
class Row:
    """One position that counts."""

    student: list[float]
    teacher: list[float]
    target: int


def counted(case: Case) -> list[Row]:
    """The positions that count, labelled or not."""
    mask = torch.ones(case.positions, dtype=torch.bool) if case.batch.mask is None else case.batch.mask
    columns = zip(
        case.student.logits.reshape(-1, CLASSES).tolist(),
        case.teacher.logits.reshape(-1, CLASSES).tolist(),
        case.batch.targets.reshape(-1).tolist(),
        mask.reshape(-1).tolist(),
        strict=True,
    )
    return [Row(student, teacher, target) for student, teacher, target, counts in columns if counts]


def labelled(case: Case) -> list[Row]:
    """The positions that count and carry a label."""
    return [row for row in counted(case) if row.target != IGNORE_INDEX]


def mean(value: Callable[[Row], float], rows: list[Row]) -> float:
    """Mean over the rows; 0 without any."""
    total = 0.0
    for row in rows:
        total += value(row)
    return total / len(rows) if rows else 0.0


def softmax(logits: list[float], temperature: float = 1.0) -> list[float]:
    exponentials = [math.exp(value / temperature) for value in logits]
    return [value / sum(exponentials) for value in exponentials]


def kullback_leibler(p: list[float], q: list[float]) -> float:
    """KL(p || q): sum_k p_k log(p_k / q_k)."""
    return sum(p[k] * (math.log(p[k]) - math.log(q[k])) for k in range(len(p)))
