import math
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError

from conformance.case import CLASSES, Case, logits_case
from conformance.method_suite import MethodSuite
from understudy import IGNORE_INDEX, Batch, Knowledge, SoftTargets

TEMPERATURE = 3.0


def softmax(logits: list[float], temperature: float) -> list[float]:
    """Hinton et al. 2015, eq. 1."""
    exponentials = [math.exp(value / temperature) for value in logits]
    return [value / sum(exponentials) for value in exponentials]


def soft_targets(case: Case, rows: str) -> float:
    """Section 2: cross-entropy with the soft targets less their own entropy, times the temperature squared."""
    total, count = 0.0, 0
    everywhere = torch.ones(case.positions, dtype=torch.bool)
    lines = zip(
        case.student.logits.reshape(-1, CLASSES).tolist(),
        case.teacher.logits.reshape(-1, CLASSES).tolist(),
        case.batch.targets.reshape(-1).tolist(),
        (everywhere if case.batch.mask is None else case.batch.mask).reshape(-1).tolist(),
        strict=True,
    )
    for student, teacher, target, counts in lines:
        if not counts or (rows == "labelled" and target == IGNORE_INDEX):
            continue
        if rows == "unlabelled" and target != IGNORE_INDEX:
            continue
        count += 1
        p, q = softmax(teacher, TEMPERATURE), softmax(student, TEMPERATURE)
        for k in range(CLASSES):
            total += TEMPERATURE**2 * p[k] * (math.log(p[k]) - math.log(q[k]))
    return total / count if count else 0.0


def at_temperature_one(_honest, case: Case) -> torch.Tensor:
    return SoftTargets(temperature=1.0).loss(case.student, case.teacher, case.batch)


class TestSoftTargets(MethodSuite):
    method = SoftTargets(temperature=TEMPERATURE)
    sabotages: ClassVar = {
        "missing temperature squared": lambda honest, case: honest(case) / TEMPERATURE**2,
        "mean over classes too": lambda honest, case: honest(case) / CLASSES,
        "temperature 1": at_temperature_one,
    }

    def case(self, seed, count, positions):
        return logits_case(seed, count, positions)

    def reference(self, term, case):
        return soft_targets(case, self.method.rows)

    def known_values(self):
        case = logits_case(1, 4)
        shifted = case.with_tensors([case.teacher.logits + 5.0])
        return [(case.with_tensors([case.teacher.logits]), 0.0), (shifted, 0.0)]


class TestSoftTargetsOnLabelled(TestSoftTargets):
    method = SoftTargets(temperature=TEMPERATURE, rows="labelled")
    sabotages: ClassVar = {"all rows": lambda _, case: TestSoftTargets().loss(case)}
    test_compiled_equals_eager = None


class TestSoftTargetsOnUnlabelled(TestSoftTargets):
    method = SoftTargets(temperature=TEMPERATURE, rows="unlabelled")
    sabotages: ClassVar = {"all rows": lambda _, case: TestSoftTargets().loss(case)}
    test_compiled_equals_eager = None

    def case(self, seed, count, positions):
        """Every second sample without a label, also where the suite itself takes none away."""
        case = logits_case(seed, count, positions)
        keep = torch.zeros(case.positions, dtype=torch.bool)
        keep[1::2] = True
        return case.labelled(keep)


def test_without_targets_every_row_is_unlabelled() -> None:
    student, teacher = Knowledge(logits=torch.randn(4, 3)), Knowledge(logits=torch.randn(4, 3))
    batch = Batch(inputs=torch.zeros(4, 1))
    everywhere = SoftTargets().loss(student, teacher, batch)
    assert everywhere > 0
    assert torch.equal(SoftTargets(rows="unlabelled").loss(student, teacher, batch), everywhere)
    assert SoftTargets(rows="labelled").loss(student, teacher, batch) == 0.0


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_the_temperature_is_a_positive_number(temperature: float) -> None:
    with pytest.raises(ValidationError, match="temperature"):
        SoftTargets(temperature=temperature)
