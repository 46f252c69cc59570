import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from conformance.case import CLASSES, Case, logits_case
from conformance.logit_rows import counted, kullback_leibler, mean, softmax
from conformance.method_suite import MethodSuite
from understudy import CurriculumTemperature, SoftTargets

REVERSAL, LOWEST, HIGHEST = 0.5, 2.0, 6.0


def limited(theta: float) -> float:
    """Li et al. 2023, the authors' code: the lower limit, and a sigmoid's part of what is above it."""
    return LOWEST + (HIGHEST - LOWEST) / (1.0 + math.exp(-theta))


START = limited(1.0)


def softened(case: Case, temperature: float) -> float:
    return mean(
        lambda row: (
            temperature**2 * kullback_leibler(softmax(row.teacher, temperature), softmax(row.student, temperature))
        ),
        counted(case),
    )


def at(temperature: float):
    method = SoftTargets(temperature=temperature)
    return lambda _, case: method.loss(case.student, case.teacher, case.batch)


def value_and_slope(term: nn.Module, case: Case, step: float = 1e-4) -> tuple[float, float]:
    """The loss, and its true derivative by theta from values alone, by central differences."""
    values = []
    for move in (0.0, step, -2 * step, step):
        with torch.no_grad():
            term.theta += move
            values.append(term(case.student, case.teacher, case.batch).item())
    return values[0], (values[1] - values[2]) / (2 * step)


class TestCurriculumTemperature(MethodSuite):
    method = CurriculumTemperature(reversal=REVERSAL, lowest=LOWEST, highest=HIGHEST)
    sabotages: ClassVar = {
        "missing temperature squared": lambda honest, case: honest(case) / START**2,
        "mean over classes too": lambda honest, case: honest(case) / CLASSES,
        "at the upper limit": at(HIGHEST),
        "theta starts at 0": at(limited(0.0)),
    }

    def case(self, seed, count, positions):
        return logits_case(seed, count, positions)

    def reference(self, term, case):
        return softened(case, limited(term.theta.item()))

    def known_values(self):
        case = logits_case(1, 4)
        uniform = case.with_tensors([torch.zeros_like(case.student.logits)])
        half = torch.zeros_like(case.teacher.logits)
        half[:, 0] = START * math.log(CLASSES - 1)  # probabilities 1/2 and 3 times 1/6
        entropy = 0.5 * math.log(2.0) + 0.5 * math.log(2.0 * (CLASSES - 1))
        return [
            (case.with_tensors([case.teacher.logits]), 0.0),
            (case.with_tensors([case.teacher.logits + 5.0]), 0.0),
            (
                replace(uniform, teacher=replace(case.teacher, logits=half)),
                START**2 * (math.log(CLASSES) - entropy),
            ),
        ]

    def test_its_gradient_is_that_of_its_value(self) -> None:
        """The student's; that of the temperature is the true one times -lambda, against the value by design."""
        for positions in self.positions:
            case = self.case(1, 3, positions)
            term = self.term(case)

            def value(logits: torch.Tensor, case=case, term=term) -> torch.Tensor:
                changed = case.with_tensors([logits])
                return term(changed.student, changed.teacher, changed.batch)

            assert torch.autograd.gradcheck(value, case.leaves().tensors())
            for theta in (1.0, -2.0, 3.0):
                term.theta.data.fill_(theta)
                _, slope = value_and_slope(term, case)
                (gradient,) = torch.autograd.grad(value(case.student.logits), term.theta)
                assert abs(slope) > 1e-3
                assert gradient.item() == pytest.approx(-REVERSAL * slope, rel=1e-6)

    def test_equals_the_reference_wherever_the_temperature_has_gone(self) -> None:
        case = self.case(1, 6, ())
        term = self.term(case)
        for theta in (-30.0, -1.0, 0.0, 2.0, 30.0):
            term.theta.data.fill_(theta)
            assert term.temperature().item() == pytest.approx(limited(theta), rel=1e-12)
            value = term(case.student, case.teacher, case.batch).item()
            assert value == pytest.approx(softened(case, limited(theta)), rel=1e-10)


@pytest.mark.parametrize("teacher_is_sharper", [False, True])
def test_a_step_of_both_makes_it_easier_for_the_student_and_harder_by_the_temperature(teacher_is_sharper) -> None:
    case = logits_case(1, 6)
    if teacher_is_sharper:
        case = replace(case, teacher=replace(case.teacher, logits=5.0 * case.teacher.logits))
    case = case.leaves()
    term = CurriculumTemperature(lowest=1.0, highest=21.0).build(case.shapes).double()
    before = term(case.student, case.teacher, case.batch)
    before.backward()
    after = {}
    with torch.no_grad():
        moved = case.with_tensors([case.student.logits - 1e-3 * case.student.logits.grad])
        after["student"] = term(moved.student, moved.teacher, moved.batch)
        term.theta -= 1e-3 * term.theta.grad
        after["temperature"] = term(case.student, case.teacher, case.batch)
    assert after["student"] < before < after["temperature"]


def test_starts_where_the_authors_start_and_stays_there_without_reversal() -> None:
    case = logits_case(1, 6).leaves()
    term = CurriculumTemperature(reversal=0.0).build(case.shapes).double()
    assert term.temperature().item() == pytest.approx(1 + 20 / (1 + math.exp(-1)))
    assert round(term.temperature().item(), 1) == 15.6  # what the docstring says
    term(case.student, case.teacher, case.batch).backward()
    assert term.theta.grad == 0.0
    assert case.student.logits.grad.abs().sum() > 0.0


def test_the_strength_multiplies_the_gradient_of_the_temperature_only() -> None:
    gradients = {}
    for strength in (1.0, 2.5):
        case = logits_case(1, 6).leaves()
        term = CurriculumTemperature(reversal=strength).build(case.shapes).double()
        term(case.student, case.teacher, case.batch).backward()
        gradients[strength] = term.theta.grad, case.student.logits.grad
    torch.testing.assert_close(gradients[2.5][0], 2.5 * gradients[1.0][0])
    torch.testing.assert_close(gradients[2.5][1], gradients[1.0][1])


@pytest.mark.parametrize(
    "wrong", [{"reversal": -1.0}, {"lowest": 0.0}, {"highest": -1.0}, {"lowest": 5.0, "highest": 4.0}]
)
def test_the_limits_are_positive_and_in_order(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        CurriculumTemperature(**wrong)
