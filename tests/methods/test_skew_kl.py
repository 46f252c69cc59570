import math
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError

from conformance.case import CLASSES, Case, logits_case
from conformance.logit_rows import Row, counted, kullback_leibler, mean, softmax
from conformance.method_suite import MethodSuite
from understudy import SkewKl

BETA, TEMPERATURE = 0.3, 2.0


def skewed(row: Row) -> float:
    """Ko et al. 2024, eq. 3, with p the teacher and q the student."""
    p, q = softmax(row.teacher, TEMPERATURE), softmax(row.student, TEMPERATURE)
    return TEMPERATURE**2 * kullback_leibler(p, [BETA * p[k] + (1.0 - BETA) * q[k] for k in range(CLASSES)])


def with_beta(beta: float):
    return lambda _, case: SkewKl(beta=beta, temperature=TEMPERATURE).loss(case.student, case.teacher, case.batch)


class TestSkewKl(MethodSuite):
    method = SkewKl(beta=BETA, temperature=TEMPERATURE)
    sabotages: ClassVar = {
        "missing temperature squared": lambda honest, case: honest(case) / TEMPERATURE**2,
        "mean over classes too": lambda honest, case: honest(case) / CLASSES,
        "the student's share for the teacher's": with_beta(1.0 - BETA),
        "even shares": with_beta(0.5),
    }

    def case(self, seed, count, positions):
        return logits_case(seed, count, positions)

    def reference(self, term, case):
        return mean(skewed, counted(case))

    def known_values(self):
        case = logits_case(1, 4)
        hot = 1e3 * torch.eye(CLASSES, dtype=torch.float64)
        disjoint = Case(case.with_tensors([hot]).student, case.with_tensors([hot.flip(-1)]).student, case.batch)
        equal = case.with_tensors([case.teacher.logits - 2.0])
        return [(equal, 0.0), (disjoint, -(TEMPERATURE**2) * math.log(BETA))]


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.1, float("nan")])
def test_beta_is_a_share(beta: float) -> None:
    with pytest.raises(ValidationError, match="beta"):
        SkewKl(beta=beta)
