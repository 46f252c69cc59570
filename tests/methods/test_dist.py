import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError

from conformance.case import CLASSES, Case, logits_case
from conformance.method_suite import BatchCoupledSuite
from conformance.relations import Rows, everything_counts, rows_that_count
from understudy import Dist

TEMPERATURE, BETA, GAMMA = 3.0, 1.5, 0.5


def softmax(logits: list[float]) -> list[float]:
    exponentials = [math.exp(value / TEMPERATURE) for value in logits]
    return [value / sum(exponentials) for value in exponentials]


def pearson(a: list[float], b: list[float]) -> float:
    """Huang et al. 2022: covariance over the product of the standard deviations."""
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    covariance = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True)) / len(a)
    variances = sum((x - mean_a) ** 2 for x in a) / len(a), sum((y - mean_b) ** 2 for y in b) / len(b)
    return covariance / math.sqrt(variances[0] * variances[1])


def counted(case: Case) -> tuple[Rows, Rows]:
    counts = torch.ones(case.positions, dtype=torch.bool) if case.batch.mask is None else case.batch.mask
    return tuple([softmax(row) for row in side.logits[counts].tolist()] for side in (case.student, case.teacher))


def stronger_teacher(case: Case) -> float:
    """The paper's inter and intra relations, times the temperature squared as in the authors' code."""
    student, teacher = counted(case)
    if len(student) < 2:
        return 0.0
    inter = sum(1 - pearson(a, b) for a, b in zip(student, teacher, strict=True)) / len(student)
    classes = range(CLASSES)
    intra = sum(1 - pearson([row[k] for row in student], [row[k] for row in teacher]) for k in classes) / CLASSES
    return TEMPERATURE**2 * (BETA * inter + GAMMA * intra)


def beta_and_gamma_exchanged(_honest, case: Case) -> torch.Tensor:
    exchanged = Dist(temperature=TEMPERATURE, beta=GAMMA, gamma=BETA)
    return exchanged.loss(case.student, case.teacher, case.batch)


class TestDist(BatchCoupledSuite):
    method = Dist(temperature=TEMPERATURE, beta=BETA, gamma=GAMMA)
    symmetric = True
    sabotages: ClassVar = {
        "missing temperature squared": lambda honest, case: honest(case) / TEMPERATURE**2,
        "beta and gamma exchanged": beta_and_gamma_exchanged,
        "sum over samples": lambda honest, case: honest(case) * rows_that_count(case),
        "mask forgotten": everything_counts,
    }

    def case(self, seed, count, positions):
        return logits_case(seed, count, positions)

    def reference(self, term, case):
        return stronger_teacher(case)

    def known_values(self):
        case = logits_case(1, 4)
        shifted = case.with_tensors([case.teacher.logits + 5.0])
        two = case.teacher.logits[:, :2]
        opposite = replace(case, teacher=replace(case.teacher, logits=two)).with_tensors([-two])
        return [
            (case.with_tensors([case.teacher.logits]), 0.0),
            (shifted, 0.0),
            (opposite, 9.0 * (1.5 * 2 + 0.5 * 2)),  # of two classes: every correlation is -1
        ]


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"beta": -1.0}, {"gamma": -0.1}])
def test_the_temperature_is_positive_and_the_weights_not_negative(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Dist(**wrong)
