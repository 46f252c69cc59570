from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError

from conformance.case import CLASSES, Case, logits_case
from conformance.logit_rows import Row, counted, mean
from conformance.method_suite import MethodSuite
from understudy import Regression

DELTA = 0.7


def huber(difference: float) -> float:
    """Huber 1964: half the square up to delta, from there on the tangent."""
    size = abs(difference)
    return size**2 / 2 if size <= DELTA else DELTA**2 / 2 + DELTA * (size - DELTA)


def averaged(norm):
    def value(row: Row) -> float:
        total = 0.0
        for k in range(CLASSES):
            total += norm(row.student[k] - row.teacher[k])
        return total / CLASSES

    return value


def instead(**fields):
    return lambda _, case: Regression(**fields).loss(case.student, case.teacher, case.batch)


class TestRegression(MethodSuite):
    method = Regression(delta=DELTA)
    symmetric = True
    sabotages: ClassVar = {
        "sum over outputs": lambda honest, case: honest(case) * CLASSES,
        "another delta": instead(),
        "squares everywhere": lambda honest, case: instead(norm="l2")(honest, case) / 2.0,
        "divided by delta, as the smooth L1 loss": lambda honest, case: honest(case) / DELTA,
    }

    def case(self, seed, count, positions):
        return logits_case(seed, count, positions)

    def reference(self, term, case):
        return mean(averaged(huber), counted(case))

    def known_values(self) -> list[tuple[Case, float]]:
        case = logits_case(1, 4)
        return [
            (case.with_tensors([case.teacher.logits]), 0.0),
            (case.with_tensors([case.teacher.logits + 0.2]), 0.02),
            (case.with_tensors([case.teacher.logits - 3.0]), DELTA * (3.0 - DELTA / 2)),
        ]


class TestRegressionL1(TestRegression):
    method = Regression(norm="l1")
    sabotages: ClassVar = {"squared": instead(norm="l2")}
    test_compiled_equals_eager = None

    def reference(self, term, case):
        return mean(averaged(abs), counted(case))

    def known_values(self) -> list[tuple[Case, float]]:
        case = logits_case(1, 4)
        return [(case.with_tensors([case.teacher.logits]), 0.0), (case.with_tensors([case.teacher.logits - 3.0]), 3.0)]


class TestRegressionL2(TestRegression):
    method = Regression(norm="l2")
    sabotages: ClassVar = {"half": lambda honest, case: honest(case) / 2.0, "absolute": instead(norm="l1")}
    test_compiled_equals_eager = None

    def reference(self, term, case):
        return mean(averaged(lambda difference: difference**2), counted(case))

    def known_values(self) -> list[tuple[Case, float]]:
        case = logits_case(1, 4)
        return [(case.with_tensors([case.teacher.logits]), 0.0), (case.with_tensors([case.teacher.logits - 3.0]), 9.0)]


def test_a_single_number_per_sample_is_regressed() -> None:
    case = logits_case(1, 5)
    case = case.each(lambda tensor: tensor[..., :1] if tensor.is_floating_point() else tensor).leaves()
    Regression(norm="l1").loss(case.student, case.teacher, case.batch).backward()
    (numbers,) = case.tensors()
    torch.testing.assert_close(numbers.grad, (numbers - case.teacher.logits).detach().sign() / 5)


@pytest.mark.parametrize("wrong", [{"delta": 0.0}, {"norm": "l3"}, {"norm": "l1", "delta": 2.0}])
def test_delta_is_positive_and_of_the_huber_norm(wrong) -> None:
    with pytest.raises(ValidationError, match=next(reversed(wrong))):
        Regression(**wrong)
