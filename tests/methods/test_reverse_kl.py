import math
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError

from conformance.case import CLASSES, Case, logits_case
from conformance.logit_rows import counted, kullback_leibler, mean, softmax
from conformance.method_suite import MethodSuite
from understudy import ReverseKl, SoftTargets

TEMPERATURE = 3.0


def reverse_divergence(case: Case) -> float:
    """Gu et al. 2024, eq. 1: the expectation under the student of log q(y) / p(y), here of each position."""
    return mean(
        lambda row: (
            TEMPERATURE**2 * kullback_leibler(softmax(row.student, TEMPERATURE), softmax(row.teacher, TEMPERATURE))
        ),
        counted(case),
    )


def forward_divergence(_honest, case: Case) -> torch.Tensor:
    return SoftTargets(temperature=TEMPERATURE).loss(case.student, case.teacher, case.batch)


class TestReverseKl(MethodSuite):
    method = ReverseKl(temperature=TEMPERATURE)
    sabotages: ClassVar = {
        "missing temperature squared": lambda honest, case: honest(case) / TEMPERATURE**2,
        "mean over classes too": lambda honest, case: honest(case) / CLASSES,
        "forward divergence": forward_divergence,
    }

    def case(self, seed, count, positions):
        return logits_case(seed, count, positions)

    def reference(self, term, case):
        return reverse_divergence(case)

    def known_values(self):
        case = logits_case(1, 4)
        uniform = torch.zeros(4, CLASSES, dtype=torch.float64)
        doubted = torch.tensor([[TEMPERATURE * math.log(3.0), 0.0, 0.0, 0.0]] * 4, dtype=torch.float64)
        sure = case.with_tensors([doubted])  # probabilities 1/2 and three times 1/6, against one quarter each
        sure = Case(sure.student, case.with_tensors([uniform]).student, case.batch)
        return [
            (case.with_tensors([case.teacher.logits + 5.0]), 0.0),
            (sure, TEMPERATURE**2 * (0.5 * math.log(2.0) + 0.5 * math.log(2.0 / 3.0))),
        ]


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_the_temperature_is_a_positive_number(temperature: float) -> None:
    with pytest.raises(ValidationError, match="temperature"):
        ReverseKl(temperature=temperature)
