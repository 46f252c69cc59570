import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError

from conformance.case import CLASSES, Case, logits_case
from conformance.logit_rows import counted, kullback_leibler, softmax
from conformance.method_suite import BatchCoupledSuite
from conformance.relations import Rows, dot, everything_counts, rows_that_count
from understudy import MultilevelLogits

TEMPERATURES = (2.0, 5.0)
LEVELS = {"instance_level": 0.5, "batch_level": 1.5, "class_level": 0.75}


def squared_difference(student: Rows, teacher: Rows) -> float:
    """The squared Frobenius norm of the difference of two matrices of inner products, entry by entry."""
    total = 0.0
    for i in range(len(student)):
        for j in range(len(student)):
            total += (dot(teacher[i], teacher[j]) - dot(student[i], student[j])) ** 2
    return total


def columns(rows: Rows) -> Rows:
    return [[row[k] for row in rows] for k in range(CLASSES)]


def three_levels(case: Case) -> float:
    """Jin et al. 2023: instance, batch and class level, at each temperature."""
    rows = counted(case)
    if not rows:
        return 0.0
    total = 0.0
    for tau in TEMPERATURES:
        student, teacher = [softmax(row.student, tau) for row in rows], [softmax(row.teacher, tau) for row in rows]
        instance = sum(kullback_leibler(p, q) for p, q in zip(teacher, student, strict=True)) / len(rows)
        total += LEVELS["instance_level"] * tau**2 * instance
        total += LEVELS["batch_level"] * squared_difference(student, teacher) / len(rows)
        total += LEVELS["class_level"] * squared_difference(columns(student), columns(teacher)) / CLASSES
    return total


def with_fields(**fields):
    method = MultilevelLogits(**{"temperatures": TEMPERATURES, **LEVELS, **fields})
    return lambda _, case: method.loss(case.student, case.teacher, case.batch)


class TestMultilevelLogits(BatchCoupledSuite):
    method = MultilevelLogits(temperatures=TEMPERATURES, **LEVELS)
    fewest = 1
    sabotages: ClassVar = {
        "without instances": with_fields(instance_level=0.0),
        "without the batch": with_fields(batch_level=0.0),
        "without classes": with_fields(class_level=0.0),
        "batch and classes exchanged": with_fields(
            batch_level=LEVELS["class_level"], class_level=LEVELS["batch_level"]
        ),
        "one temperature only": with_fields(temperatures=(2.0,)),
        "mean over temperatures": lambda honest, case: honest(case) / len(TEMPERATURES),
        "sum over samples": lambda honest, case: honest(case) * rows_that_count(case),
        "mask forgotten": everything_counts,
    }

    def case(self, seed, count, positions):
        return logits_case(seed, count, positions)

    def reference(self, term, case):
        return three_levels(case)

    def known_values(self):
        """Four samples; a teacher that is sure of the first class, and a student that knows nothing."""
        case = logits_case(1, 4)
        shifted = case.with_tensors([case.teacher.logits + 5.0])
        sure = torch.zeros_like(case.teacher.logits)
        sure[:, 0] = 1e5
        unknowing = replace(case, teacher=replace(case.teacher, logits=sure)).with_tensors([torch.zeros_like(sure)])
        instance = (2.0**2 + 5.0**2) * math.log(4)
        batch = 2 * 16 * 0.75**2 / 4  # every inner product 1 instead of 1/4
        classes = 2 * (3.75**2 + 15 * 0.25**2) / 4  # 4 for the first class instead of 1/4 for all
        return [
            (case.with_tensors([case.teacher.logits]), 0.0),
            (shifted, 0.0),
            (unknowing, 0.5 * instance + 1.5 * batch + 0.75 * classes),
        ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperatures": ()},
        {"temperatures": (2.0, 0.0)},
        {"instance_level": -1.0},
        {"batch_level": -0.1},
        {"class_level": -1.0},
    ],
)
def test_the_temperatures_are_positive_and_the_weights_not_negative(wrong) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        MultilevelLogits(**wrong)
