import math
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError

from conformance.case import CLASSES, Case, logits_case
from conformance.logit_rows import Row, kullback_leibler, labelled, mean, softmax
from conformance.method_suite import MethodSuite
from understudy import Batch, CrossEntropy, Knowledge, TeacherFree

SURE, TEMPERATURE = 0.9, 0.5


def made_by_hand(target: int) -> list[float]:
    """Yuan et al. 2020: a for the true class, (1 - a) / (K - 1) for each other."""
    return [SURE if k == target else (1.0 - SURE) / (CLASSES - 1) for k in range(CLASSES)]


def regularisation(row: Row) -> float:
    """KL(softmax(p^d / tau) || p), as the authors' code softens it."""
    return kullback_leibler(softmax(made_by_hand(row.target), TEMPERATURE), softmax(row.student))


def with_fields(**fields: float):
    method = TeacherFree(**{"correct_probability": SURE, "temperature": TEMPERATURE, **fields})
    return lambda _, case: method.loss(case.student, case.teacher, case.batch)


def student_softened_too(honest, case: Case) -> torch.Tensor:
    return honest(case.with_tensors([case.student.logits / TEMPERATURE]))


class TestTeacherFree(MethodSuite):
    method = TeacherFree(correct_probability=SURE, temperature=TEMPERATURE)
    sabotages: ClassVar = {
        "mean over all positions, labelled or not": lambda honest, case: (
            honest(case) * case.batch.labelled.double().mean()
        ),
        "mean over classes too": lambda honest, case: honest(case) / CLASSES,
        "temperature squared": lambda honest, case: honest(case) * TEMPERATURE**2,
        "student softened too": student_softened_too,
        "another certainty": with_fields(correct_probability=1.0),
        "not softened": with_fields(temperature=1.0),
        "cross-entropy": lambda _, case: CrossEntropy().loss(case.student, case.teacher, case.batch),
    }

    def case(self, seed, count, positions):
        return logits_case(seed, count, positions)

    def reference(self, term, case):
        return mean(regularisation, labelled(case))

    def known_values(self) -> list[tuple[Case, float]]:
        case = logits_case(1, 4)
        taught = torch.tensor([made_by_hand(y) for y in case.batch.targets.tolist()], dtype=torch.float64)
        uniform = torch.zeros_like(taught)
        softened = softmax(made_by_hand(0), TEMPERATURE)
        entropy = -sum(p * math.log(p) for p in softened)
        return [
            (case.with_tensors([taught / TEMPERATURE]), 0.0),
            (case.with_tensors([taught / TEMPERATURE + 5.0]), 0.0),
            (case.with_tensors([uniform]), math.log(CLASSES) - entropy),
        ]


def test_does_without_a_teacher() -> None:
    assert not TeacherFree().needs_teacher


def test_the_default_teacher_is_nearly_uniform() -> None:
    """A student that copies it gives its true class 1.05 times the mass of another one, as the docstring says."""
    logits = torch.zeros(1, 100, dtype=torch.float64, requires_grad=True)
    batch = Batch(inputs=torch.zeros(1, 1), targets=torch.tensor([7]))
    TeacherFree().loss(Knowledge(logits=logits), Knowledge(logits=logits), batch).backward()
    assert logits.grad is not None
    made = 1 / 100 - logits.grad[0]  # the gradient is the student's probabilities less the teacher's
    assert made.argmax() == 7
    assert made[7] / made[0] == pytest.approx(1.05, abs=5e-3)


def test_without_targets_nothing_counts() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    knowledge = Knowledge(logits=logits)
    loss = TeacherFree().loss(knowledge, knowledge, Batch(torch.zeros(4, 1)))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros(4, 3))


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"correct_probability": 0.0}, {"correct_probability": 1.1}])
def test_the_certainty_is_a_probability_and_the_temperature_positive(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        TeacherFree(**wrong)
