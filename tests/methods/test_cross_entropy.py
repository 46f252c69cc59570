import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError

from conformance.case import CLASSES, Case, logits_case, mixed_case
from conformance.method_suite import MethodSuite
from understudy import IGNORE_INDEX, Batch, CrossEntropy, Knowledge


def log_probability(logits: list[float], index: int) -> float:
    return logits[index] - math.log(sum(math.exp(value) for value in logits))


def smoothed_cross_entropy(case: Case, epsilon: float) -> float:
    """Szegedy et al. 2016, section 7: sum_k q_k log p_k with q = (1 - epsilon) onehot + epsilon / K."""
    total, count = 0.0, 0
    mask = case.batch.mask if case.batch.mask is not None else torch.ones(case.positions, dtype=torch.bool)
    rows = zip(
        case.student.logits.reshape(-1, CLASSES).tolist(),
        case.batch.targets.reshape(-1).tolist(),
        mask.reshape(-1).tolist(),
        strict=True,
    )
    for logits, target, counts in rows:
        if target == IGNORE_INDEX or not counts:
            continue
        count += 1
        for k in range(CLASSES):
            q = (1.0 - epsilon) * (k == target) + epsilon / CLASSES
            total -= q * log_probability(logits, k)
    return total / count if count else 0.0


def with_smoothing(epsilon: float):
    return lambda _, case: CrossEntropy(label_smoothing=epsilon).loss(case.student, case.teacher, case.batch)


class TestCrossEntropy(MethodSuite):
    method = CrossEntropy(label_smoothing=0.1)
    sabotages: ClassVar = {
        "mean over all positions, labelled or not": lambda honest, case: (
            honest(case) * case.batch.labelled.double().mean()
        ),
        "no smoothing": lambda _, case: CrossEntropy().loss(case.student, case.teacher, case.batch),
        "spread over the other classes only": with_smoothing(0.1 * CLASSES / (CLASSES - 1)),
    }

    def case(self, seed, count, positions):
        return logits_case(seed, count, positions)

    def reference(self, term, case):
        return smoothed_cross_entropy(case, 0.1)

    def known_values(self):
        case = logits_case(1, 4)
        return [(case.with_tensors([torch.zeros(4, CLASSES, dtype=torch.float64)]), math.log(CLASSES))]


class TestCrossEntropyUnsmoothed(MethodSuite):
    method = CrossEntropy()
    test_compiled_equals_eager = None

    def case(self, seed, count, positions):
        return logits_case(seed, count, positions)

    def reference(self, term, case):
        return smoothed_cross_entropy(case, 0.0)

    def known_values(self):
        case = logits_case(1, 4)
        sure = 1e3 * torch.nn.functional.one_hot(case.batch.targets, CLASSES).double()
        return [(case.with_tensors([sure]), 0.0)]


def mixed_cross_entropy(case: Case, epsilon: float, *, swapped: bool = False) -> float:
    """Zhang et al. 2018: the cross-entropy with the soft label share * onehot(first) + (1 - share) * onehot(second)."""
    total, count = 0.0, 0
    mask = case.batch.mask if case.batch.mask is not None else torch.ones(case.positions, dtype=torch.bool)
    rows = zip(
        case.student.logits.reshape(-1, CLASSES).tolist(),
        case.batch.label_pairs.reshape(-1, 2).tolist(),
        case.batch.shares.reshape(-1).tolist(),
        mask.reshape(-1).tolist(),
        strict=True,
    )
    for logits, (first, second), share, counts in rows:
        if IGNORE_INDEX in (first, second) or not counts:
            continue
        count += 1
        part = 1.0 - share if swapped else share
        for k in range(CLASSES):
            q = (1.0 - epsilon) * (part * (k == first) + (1.0 - part) * (k == second)) + epsilon / CLASSES
            total -= q * log_probability(logits, k)
    return total / count if count else 0.0


class TestCrossEntropyMixed(MethodSuite):
    method = CrossEntropy(label_smoothing=0.1)
    sabotages: ClassVar = {
        "mean over all positions, labelled or not": lambda honest, case: (
            honest(case) * case.batch.supervised.double().mean()
        ),
        "the first label alone": lambda honest, case: honest(
            replace(case, batch=replace(case.batch, shares=torch.ones_like(case.batch.shares)))
        ),
        "shares the wrong way round": lambda _, case: torch.tensor(
            mixed_cross_entropy(case, 0.1, swapped=True), dtype=torch.float64
        ),
        "a sample with one known label counts": lambda honest, case: honest(
            replace(case, batch=replace(case.batch, label_pairs=case.batch.label_pairs.clamp(min=0)))
        ),
    }
    test_survives_a_recipe = None

    def case(self, seed, count, positions):
        return mixed_case(seed, count, positions)

    def reference(self, term, case):
        return mixed_cross_entropy(case, 0.1)

    def known_values(self):
        case = mixed_case(1, 4)
        return [(case.with_tensors([torch.zeros(4, CLASSES, dtype=torch.float64)]), math.log(CLASSES))]


def test_a_batch_without_any_label_gives_a_connected_zero() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    knowledge = Knowledge(logits=logits)
    for targets in (None, torch.full((4,), IGNORE_INDEX)):
        loss = CrossEntropy().loss(knowledge, knowledge, Batch(inputs=logits.detach(), targets=targets))
        loss.backward()
        assert loss.item() == 0.0
        assert torch.equal(logits.grad, torch.zeros(4, 3))


@pytest.mark.parametrize("epsilon", [-0.1, 1.1, float("nan")])
def test_smoothing_is_a_fraction(epsilon: float) -> None:
    with pytest.raises(ValidationError, match="label_smoothing"):
        CrossEntropy(label_smoothing=epsilon)
