import math
from typing import ClassVar

import pytest
import torch

from conformance.case import CLASSES, Case, numbers_case
from conformance.method_suite import MethodSuite
from understudy import Batch, InputError, Knowledge, Objective, SquaredError
from understudy.sources import Loader, Split
from understudy.views import Views


def mean_of_squares(case: Case) -> float:
    """Over the positions of which all numbers are known, and that count; 0 where there is none."""
    mask = case.batch.mask if case.batch.mask is not None else torch.ones(case.positions, dtype=torch.bool)
    rows = zip(
        case.student.logits.reshape(-1, CLASSES).tolist(),
        case.batch.targets.reshape(-1, CLASSES).tolist(),
        mask.reshape(-1).tolist(),
        strict=True,
    )
    total, count = 0.0, 0
    for answers, targets, counts in rows:
        if not counts or any(math.isnan(target) for target in targets):
            continue
        count += 1
        for answer, target in zip(answers, targets, strict=True):
            total += (answer - target) ** 2 / CLASSES
    return total / count if count else 0.0


class TestSquaredError(MethodSuite):
    method = SquaredError()
    sabotages: ClassVar = {
        "sum over numbers": lambda honest, case: honest(case) * CLASSES,
        "half": lambda honest, case: honest(case) / 2,
        "root": lambda honest, case: honest(case).sqrt(),
        "mean over all positions, known or not": lambda honest, case: (
            honest(case) * case.batch.labelled.double().mean()
        ),
    }

    def case(self, seed, count, positions):
        return numbers_case(seed, count, positions)

    def reference(self, term, case):
        return mean_of_squares(case)

    def known_values(self) -> list[tuple[Case, float]]:
        case = numbers_case(1, 4)
        return [
            (case.with_tensors([case.batch.targets]), 0.0),
            (case.with_tensors([case.batch.targets + 3.0]), 9.0),
        ]


def test_unknown_numbers_leave_no_trace_in_the_gradient() -> None:
    answers = torch.tensor([[1.0], [5.0]], requires_grad=True)
    batch = Batch(inputs=torch.zeros(2, 1), targets=torch.tensor([[3.0], [float("nan")]]))
    shown = Knowledge(logits=answers)
    SquaredError().loss(shown, shown, batch).backward()
    assert answers.grad.tolist() == [[-4.0], [0.0]]


def test_without_targets_it_is_a_connected_zero() -> None:
    answers = torch.tensor([[1.0]], requires_grad=True)
    shown = Knowledge(logits=answers)
    loss = SquaredError().loss(shown, shown, Batch(inputs=torch.zeros(1, 1)))
    loss.backward()
    assert (loss.item(), answers.grad.item()) == (0.0, 0.0)


def test_numbers_are_not_mixed() -> None:
    assert Objective((SquaredError(),)).unmixable
    split = Split(torch.zeros(4, 3, 8, 8), torch.rand(4, 1), torch.arange(4), ("price",), "train")
    with pytest.raises(InputError, match="has numbers, which are not mixed"):
        Loader(split, batch_size=2, views=Views(mixup=0.5))
