import math
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError

from conformance.case import CLASSES, Case, logits_case
from conformance.logit_rows import Row, labelled, mean, softmax
from conformance.method_suite import MethodSuite
from understudy import Batch, Knowledge, NormalisedKd

GAMMA, TEMPERATURE = 2.5, 3.0


def normalised(row: Row) -> float:
    """Yang et al. 2023: -T_t log S_t - gamma lambda^2 sum_{i != t} N(T_i) log N(S_i), N over the others alone."""
    y = row.target
    trust, believed = softmax(row.teacher)[y], softmax(row.student)[y]
    others = [k for k in range(CLASSES) if k != y]
    p = softmax([row.teacher[k] for k in others], TEMPERATURE)
    q = softmax([row.student[k] for k in others], TEMPERATURE)
    total = -trust * math.log(believed)
    for k in range(len(others)):
        total -= GAMMA * TEMPERATURE**2 * p[k] * math.log(q[k])
    return total


def other(**fields: float):
    method = NormalisedKd(**{"gamma": GAMMA, "temperature": TEMPERATURE, **fields})
    return lambda _, case: method.loss(case.student, case.teacher, case.batch)


def softened(_honest, case: Case) -> torch.Tensor:
    """A temperature on the true class too: that of logits divided by it, at temperature 1."""
    method = NormalisedKd(gamma=GAMMA * TEMPERATURE**2, temperature=1.0)
    cooled = case.each(lambda tensor: tensor / TEMPERATURE if tensor.is_floating_point() else tensor)
    return method.loss(cooled.student, cooled.teacher, cooled.batch)


class TestNormalisedKd(MethodSuite):
    method = NormalisedKd(gamma=GAMMA, temperature=TEMPERATURE)
    sabotages: ClassVar = {
        "mean over all positions, labelled or not": lambda honest, case: (
            honest(case) * case.batch.labelled.double().mean()
        ),
        "other classes left out": other(gamma=0.0),
        "missing temperature squared": other(gamma=GAMMA / TEMPERATURE**2),
        "temperature on the true class": softened,
    }

    def case(self, seed, count, positions):
        return logits_case(seed, count, positions)

    def reference(self, term, case):
        return mean(normalised, labelled(case))

    def known_values(self) -> list[tuple[Case, float]]:
        case = logits_case(1, 4)
        uniform = case.with_tensors([torch.zeros(4, CLASSES, dtype=torch.float64)]).student
        others = GAMMA * TEMPERATURE**2 * math.log(CLASSES - 1)
        sure = case.with_tensors([1e3 * torch.nn.functional.one_hot(case.batch.targets, CLASSES).double()]).student
        return [
            (Case(uniform, uniform, case.batch), math.log(CLASSES) / CLASSES + others),
            (Case(sure, uniform, case.batch), others),
            (Case(uniform, sure, case.batch), math.log(CLASSES) + others),
        ]


def test_without_targets_nothing_counts() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    loss = NormalisedKd().loss(Knowledge(logits=logits), Knowledge(logits=torch.randn(4, 3)), Batch(torch.zeros(4, 1)))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros(4, 3))


@pytest.mark.parametrize("field", ["gamma", "temperature"])
def test_no_hyper_parameter_is_negative(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        NormalisedKd(**{field: -1.0})
