from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError

from conformance.case import CLASSES, Case, logits_case
from conformance.logit_rows import Row, counted, kullback_leibler, mean, softmax
from conformance.method_suite import MethodSuite
from understudy import DynamicTemperature, SoftTargets

TEMPERATURE = 3.0


def temperatures(row: Row) -> tuple[float, float]:
    """Wei and Bai 2024: the mean temperature, shared out like the largest logits; student's and teacher's."""
    y, x = max(*row.student, 1e-3), max(*row.teacher, 1e-3)
    return 2 * y / (x + y) * TEMPERATURE, 2 * x / (x + y) * TEMPERATURE


def divergence(row: Row) -> float:
    own, answer = temperatures(row)
    return own * answer * kullback_leibler(softmax(row.teacher, answer), softmax(row.student, own))


def exchanged(_honest, case: Case) -> torch.Tensor:
    """The surer one softened less."""

    def value(row: Row) -> float:
        own, answer = temperatures(row)
        return own * answer * kullback_leibler(softmax(row.teacher, own), softmax(row.student, answer))

    return torch.tensor(mean(value, counted(case)), dtype=torch.float64)


def without_product(_honest, case: Case) -> torch.Tensor:
    def value(row: Row) -> float:
        own, answer = temperatures(row)
        return TEMPERATURE**2 * divergence(row) / (own * answer)

    return torch.tensor(mean(value, counted(case)), dtype=torch.float64)


class TestDynamicTemperature(MethodSuite):
    method = DynamicTemperature(temperature=TEMPERATURE)
    sabotages: ClassVar = {
        "times the square of the mean temperature": without_product,
        "temperatures exchanged": exchanged,
        "one temperature for all": lambda _, case: SoftTargets(temperature=TEMPERATURE).loss(
            case.student, case.teacher, case.batch
        ),
        "mean over classes too": lambda honest, case: honest(case) / CLASSES,
    }

    def case(self, seed, count, positions):
        """With a positive logit on both sides, where the rule is the paper's; the others are tested below."""
        return logits_case(seed, count, positions).each(lambda t: t + 3.0 if t.is_floating_point() else t)

    def reference(self, term, case):
        return mean(divergence, counted(case))

    def known_values(self) -> list[tuple[Case, float]]:
        case = logits_case(1, 4).each(lambda tensor: tensor.abs())
        return [
            (case.with_tensors([case.teacher.logits]), 0.0),
            (case.with_tensors([7.0 * case.teacher.logits]), 0.0),
        ]


def test_logits_without_a_positive_one_have_a_loss_and_a_gradient() -> None:
    """Where the paper's rule gives negative temperatures, or divides by zero."""
    case = logits_case(1, 6)
    for student, teacher in ((-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0), (0.0, 1.0)):
        signed = case.with_tensors([student * case.student.logits.abs()]).leaves()
        signed.teacher.logits.copy_(teacher * case.teacher.logits.abs())
        loss = DynamicTemperature().loss(signed.student, signed.teacher, signed.batch)
        (gradient,) = torch.autograd.grad(loss, signed.tensors())
        assert loss > 0.0
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0.0


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_the_temperature_is_a_positive_number(temperature: float) -> None:
    with pytest.raises(ValidationError, match="temperature"):
        DynamicTemperature(temperature=temperature)
