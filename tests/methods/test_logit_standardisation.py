import math
from typing import ClassVar

import pytest
from pydantic import ValidationError

from conformance.case import CLASSES, logits_case
from conformance.logit_rows import Row, counted, kullback_leibler, mean, softmax
from conformance.method_suite import MethodSuite
from understudy import LogitStandardisation, SoftTargets

TEMPERATURE = 1.5


def z_score(logits: list[float]) -> list[float]:
    """Sun et al. 2024, algorithm 1, with the authors' 1e-7 beside the deviation."""
    centre = sum(logits) / CLASSES
    variance = 0.0
    for value in logits:
        variance += (value - centre) ** 2 / CLASSES
    return [(value - centre) / (math.sqrt(variance) + 1e-7) for value in logits]


def standardised(row: Row) -> float:
    p, q = (softmax(z_score(logits), TEMPERATURE) for logits in (row.teacher, row.student))
    return TEMPERATURE**2 * kullback_leibler(p, q)


def with_temperature(temperature: float):
    method = LogitStandardisation(temperature=temperature)
    return lambda _, case: method.loss(case.student, case.teacher, case.batch)


class TestLogitStandardisation(MethodSuite):
    method = LogitStandardisation(temperature=TEMPERATURE)
    sabotages: ClassVar = {
        "missing temperature squared": lambda honest, case: honest(case) / TEMPERATURE**2,
        "deviation of a sample": with_temperature(TEMPERATURE * math.sqrt(CLASSES / (CLASSES - 1))),
        "not standardised": lambda _, case: SoftTargets(temperature=TEMPERATURE).loss(
            case.student, case.teacher, case.batch
        ),
    }

    def case(self, seed, count, positions):
        return logits_case(seed, count, positions)

    def reference(self, term, case):
        return mean(standardised, counted(case))

    def known_values(self):
        case = logits_case(1, 4)
        return [
            (case.with_tensors([case.teacher.logits]), 0.0),
            (case.with_tensors([7.0 * case.teacher.logits - 3.0]), 0.0),
        ]


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_the_temperature_is_a_positive_number(temperature: float) -> None:
    with pytest.raises(ValidationError, match="temperature"):
        LogitStandardisation(temperature=temperature)
