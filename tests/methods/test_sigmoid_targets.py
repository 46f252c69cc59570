import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError

from conformance.case import CLASSES, Case, logits_case
from conformance.logit_rows import Row, counted, kullback_leibler, mean
from conformance.method_suite import MethodSuite
from understudy import SigmoidTargets, SoftTargets

TEMPERATURE = 3.0


def sigmoid(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-logit / TEMPERATURE))


def one_versus_all(row: Row) -> float:
    """Yang et al. 2023: the multi-label problem as one binary problem per class, a divergence for each."""
    total = 0.0
    for student, teacher in zip(row.student, row.teacher, strict=True):
        p, q = sigmoid(teacher), sigmoid(student)
        total += TEMPERATURE**2 * kullback_leibler([p, 1.0 - p], [q, 1.0 - q])
    return total


def other(method):
    return lambda _, case: method.loss(case.student, case.teacher, case.batch)


def only_of_yes(_honest, case: Case) -> torch.Tensor:
    """Without the term of 1 - p."""
    p, q = ((side.logits / TEMPERATURE).sigmoid() for side in (case.teacher, case.student))
    values = TEMPERATURE**2 * (p * (p / q).log()).sum(-1)
    return values.mean() if case.batch.mask is None else values[case.batch.mask].mean()


class TestSigmoidTargets(MethodSuite):
    method = SigmoidTargets(temperature=TEMPERATURE)
    sabotages: ClassVar = {
        "missing temperature squared": lambda honest, case: honest(case) / TEMPERATURE**2,
        "mean over classes too": lambda honest, case: honest(case) / CLASSES,
        "temperature 1": other(SigmoidTargets()),
        "softmax": other(SoftTargets(temperature=TEMPERATURE)),
        "without the divergence of no": only_of_yes,
    }

    def case(self, seed, count, positions):
        return logits_case(seed, count, positions)

    def reference(self, term, case):
        return mean(one_versus_all, counted(case))

    def known_values(self):
        case = logits_case(1, 4)
        undecided = case.with_tensors([torch.zeros_like(case.student.logits)])
        quarters = torch.full_like(case.teacher.logits, TEMPERATURE * math.log(3.0))  # p = 3/4
        sure = torch.full_like(case.teacher.logits, -1e5)
        return [
            (case.with_tensors([case.teacher.logits]), 0.0),
            (
                replace(undecided, teacher=replace(case.teacher, logits=quarters)),
                9.0 * CLASSES * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)),
            ),
            (replace(undecided, teacher=replace(case.teacher, logits=sure)), 9.0 * CLASSES * math.log(2.0)),
        ]


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf")])
def test_the_temperature_is_a_positive_number(temperature: float) -> None:
    with pytest.raises(ValidationError, match="temperature"):
        SigmoidTargets(temperature=temperature)
