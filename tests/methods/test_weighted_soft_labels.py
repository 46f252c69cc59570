import math
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError

from conformance.case import CLASSES, Case, logits_case
from conformance.logit_rows import Row, kullback_leibler, labelled, mean, softmax
from conformance.method_suite import MethodSuite
from understudy import Batch, Knowledge, SoftTargets, WeightedSoftLabels

TEMPERATURE = 3.0


def weight(row: Row, temperature: float = 1.0) -> float:
    """Zhou et al. 2021, with the authors' 1e-7 beside the teacher's cross-entropy."""
    of_student = -math.log(softmax(row.student, temperature)[row.target])
    of_teacher = -math.log(softmax(row.teacher, temperature)[row.target])
    return 1.0 - math.exp(-of_student / (of_teacher + 1e-7))


def divergence(row: Row) -> float:
    p, q = softmax(row.teacher, TEMPERATURE), softmax(row.student, TEMPERATURE)
    return TEMPERATURE**2 * kullback_leibler(p, q)


def weighted_softened(_honest, case: Case) -> torch.Tensor:
    value = mean(lambda row: weight(row, TEMPERATURE) * divergence(row), labelled(case))
    return torch.tensor(value, dtype=torch.float64)


class TestWeightedSoftLabels(MethodSuite):
    method = WeightedSoftLabels(temperature=TEMPERATURE)
    sabotages: ClassVar = {
        "missing temperature squared": lambda honest, case: honest(case) / TEMPERATURE**2,
        "mean over all positions, labelled or not": lambda honest, case: (
            honest(case) * case.batch.labelled.double().mean()
        ),
        "temperature in the weight": weighted_softened,
        "no weight": lambda _, case: SoftTargets(temperature=TEMPERATURE, rows="labelled").loss(
            case.student, case.teacher, case.batch
        ),
    }

    def case(self, seed, count, positions):
        return logits_case(seed, count, positions)

    def reference(self, term, case):
        return mean(lambda row: weight(row) * divergence(row), labelled(case))

    def known_values(self) -> list[tuple[Case, float]]:
        case = logits_case(1, 4)
        perfect = 1e4 * torch.nn.functional.one_hot(case.batch.targets, CLASSES).double()
        return [
            (case.with_tensors([case.teacher.logits + 5.0]), 0.0),
            (case.with_tensors([perfect]), 0.0),
        ]

    def test_its_gradient_is_that_of_its_value(self) -> None:
        """With the weights held: the value is that of soft targets times a number for each position."""
        for positions in self.positions:
            case = self.case(1, 3, positions).leaves()
            (gradient,) = torch.autograd.grad(self.loss(case), case.tensors())
            weights = torch.tensor([weight(row) for row in labelled(case)], dtype=torch.float64)
            soft = SoftTargets(temperature=TEMPERATURE)

            def held(logits: torch.Tensor, case=case, weights=weights, soft=soft) -> torch.Tensor:
                shown = logits.reshape(-1, 1, CLASSES)
                answers = case.teacher.logits.reshape(-1, 1, CLASSES)
                batch = Batch(inputs=torch.zeros(1, 1))
                values = [
                    soft.loss(Knowledge(logits=student), Knowledge(logits=teacher), batch)
                    for student, teacher in zip(shown, answers, strict=True)
                ]
                return (weights * torch.stack(values)).mean()

            (logits,) = case.tensors()
            assert torch.autograd.gradcheck(held, [logits])
            torch.testing.assert_close(gradient, torch.autograd.grad(held(logits), [logits])[0], rtol=1e-10, atol=1e-12)


def test_without_targets_nothing_counts() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    teacher = Knowledge(logits=torch.randn(4, 3))
    loss = WeightedSoftLabels().loss(Knowledge(logits=logits), teacher, Batch(torch.zeros(4, 1)))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros(4, 3))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_the_temperature_is_a_positive_number(temperature: float) -> None:
    with pytest.raises(ValidationError, match="temperature"):
        WeightedSoftLabels(temperature=temperature)
