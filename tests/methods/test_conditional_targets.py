import math
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError

from conformance.case import CLASSES, Case, logits_case
from conformance.logit_rows import Row, counted, kullback_leibler, labelled, mean, softmax
from conformance.method_suite import MethodSuite
from understudy import IGNORE_INDEX, Batch, ConditionalTargets, CrossEntropy, Knowledge, SoftTargets

TEMPERATURE, CONFIDENCE = 3.0, 0.8


def divergence(row: Row) -> float:
    p, q = softmax(row.teacher, TEMPERATURE), softmax(row.student, TEMPERATURE)
    return TEMPERATURE**2 * kullback_leibler(p, q)


def conditional(row: Row) -> float:
    """Meng et al. 2019: the teacher if its best class is the label, else the label; ours: sure teachers without one."""
    if row.target == IGNORE_INDEX:
        return divergence(row) if max(softmax(row.teacher)) >= CONFIDENCE else 0.0
    if row.teacher.index(max(row.teacher)) == row.target:
        return divergence(row)
    return -math.log(softmax(row.student)[row.target])


def instead(**fields):
    method = ConditionalTargets(**{"temperature": TEMPERATURE, "confidence": CONFIDENCE, **fields})
    return lambda _, case: method.loss(case.student, case.teacher, case.batch)


def by_those_that_are_believed(honest, case: Case) -> torch.Tensor:
    believed = sum(row.target != IGNORE_INDEX or max(softmax(row.teacher)) >= CONFIDENCE for row in counted(case))
    return honest(case) * len(counted(case)) / max(believed, 1)


class TestConditionalTargets(MethodSuite):
    method = ConditionalTargets(temperature=TEMPERATURE, confidence=CONFIDENCE)
    sabotages: ClassVar = {
        "missing temperature squared": instead(temperature=1.0),
        "any teacher believed": instead(confidence=0.0),
        "no teacher believed without a label": instead(confidence=1.0),
        "divided by those that are believed": by_those_that_are_believed,
        "labelled samples only": lambda honest, case: honest(case) * len(labelled(case)) / max(len(counted(case)), 1),
        "teacher only": lambda _, case: SoftTargets(temperature=TEMPERATURE).loss(
            case.student, case.teacher, case.batch
        ),
        "labels only": lambda _, case: CrossEntropy().loss(case.student, case.teacher, case.batch),
    }

    def case(self, seed, count, positions):
        return logits_case(seed, count, positions)

    def reference(self, term, case):
        return mean(conditional, counted(case))

    def known_values(self) -> list[tuple[Case, float]]:
        case = logits_case(1, 4)
        best = case.teacher.logits.argmax(-1)
        right = case.labelled(torch.zeros(4, dtype=torch.bool))
        right.batch.targets.copy_(best)
        wrong = case.labelled(torch.zeros(4, dtype=torch.bool))
        wrong.batch.targets.copy_((best + 1) % CLASSES)
        uniform = torch.zeros(4, CLASSES, dtype=torch.float64)
        return [
            (right.with_tensors([case.teacher.logits]), 0.0),
            (wrong.with_tensors([uniform]), math.log(CLASSES)),
        ]


class TestConditionalTargetsAsPublished(TestConditionalTargets):
    method = ConditionalTargets()
    sabotages: ClassVar = {"a temperature": instead()}
    test_compiled_equals_eager = None

    def reference(self, term, case):
        def value(row: Row) -> float:
            right = row.target in (IGNORE_INDEX, row.teacher.index(max(row.teacher)))
            of_label = -math.log(softmax(row.student)[max(row.target, 0)])
            return kullback_leibler(softmax(row.teacher), softmax(row.student)) if right else of_label

        return mean(value, counted(case))


def test_without_targets_sure_teachers_are_followed() -> None:
    student = Knowledge(logits=torch.zeros(2, 2))
    teacher = Knowledge(logits=torch.tensor([[0.0, 1.0], [0.0, 5.0]]))
    batch = Batch(inputs=torch.zeros(2, 1))
    everywhere, sure, never = (
        ConditionalTargets(confidence=confidence).loss(student, teacher, batch) for confidence in (0.0, 0.9, 1.0)
    )
    torch.testing.assert_close(everywhere, SoftTargets(temperature=1.0).loss(student, teacher, batch))
    second = [Knowledge(logits=knowledge.logits[1:]) for knowledge in (student, teacher)]
    torch.testing.assert_close(sure, SoftTargets(temperature=1.0).loss(*second, Batch(inputs=torch.zeros(1, 1))) / 2)
    assert never == 0.0


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"confidence": -0.1}, {"confidence": 1.1}])
def test_the_temperature_is_positive_and_the_confidence_a_probability(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        ConditionalTargets(**wrong)
