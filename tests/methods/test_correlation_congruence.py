import math
from typing import ClassVar

import pytest
from pydantic import ValidationError

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import BatchCoupledSuite
from conformance.relations import cosine, everything_counts, points_case, rows_that_count
from understudy import CorrelationCongruence
from understudy.functional import correlation_congruence_loss

GAMMA, ORDER = 0.7, 3


def kernel(a: list[float], b: list[float]) -> float:
    """Peng et al. 2019: the series of the Gaussian kernel, for features of length one."""
    powers = ((2 * GAMMA) ** p / math.factorial(p) * cosine(a, b) ** p for p in range(ORDER + 1))
    return math.exp(-2 * GAMMA) * sum(powers)


def congruence(case: Case) -> float:
    student, teacher = counted_rows(case)
    size = len(student)
    if size < 2:
        return 0.0
    pairs = [(i, j) for i in range(size) for j in range(size)]
    return sum((kernel(student[i], student[j]) - kernel(teacher[i], teacher[j])) ** 2 for i, j in pairs) / size**2


def with_order(order: int):
    def loss(_honest, case: Case):
        features = case.student.features["narrow"], case.teacher.features["wide"]
        return correlation_congruence_loss(*(f.flatten(0, -2) for f in features), gamma=GAMMA, order=order)

    return loss


class TestCorrelationCongruence(BatchCoupledSuite):
    method = CorrelationCongruence(student_layer="narrow", teacher_layer="wide", gamma=GAMMA, order=ORDER)
    sabotages: ClassVar = {
        "one power less": with_order(ORDER - 1),
        "off the diagonal": lambda honest, case: honest(case) / (1 - 1 / rows_that_count(case)),
        "factor exp(-2 gamma) forgotten": lambda honest, case: honest(case) * math.exp(4 * GAMMA),
        "mask forgotten": everything_counts,
    }

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=(3,), teacher=(5,))

    def reference(self, term, case):
        return congruence(case)

    def known_values(self):
        orthogonal, equal = [[1.0, 0.0], [0.0, 2.0]], [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
        difference = math.exp(-1.4) * (1.4 + 1.4**2 / 2 + 1.4**3 / 6)  # of two of the four entries
        return [
            (points_case(orthogonal, equal), difference**2 / 2),
            (points_case(orthogonal, [[0.0, -3.0, 0.0], [6.0, 0.0, 0.0]]), 0.0),
        ]


@pytest.mark.parametrize("wrong", [{"gamma": 0.0}, {"gamma": -1.0}, {"order": 0}, {"order": 2.5}])
def test_gamma_is_positive_and_the_order_a_natural_number(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        CorrelationCongruence(**wrong)
