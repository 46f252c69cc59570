import math
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError

from conformance.case import CLASSES, Case, logits_case
from conformance.logit_rows import Row, kullback_leibler, labelled, mean, softmax
from conformance.method_suite import MethodSuite
from understudy import Batch, Decoupled, Knowledge

ALPHA, BETA, TEMPERATURE = 1.5, 4.0, 3.0


def two_parts(row: Row) -> float:
    """Zhao et al. 2022, eq. 7: alpha TCKD + beta NCKD, times the temperature squared."""
    p, q = softmax(row.teacher, TEMPERATURE), softmax(row.student, TEMPERATURE)
    y = row.target
    others = [k for k in range(CLASSES) if k != y]
    target_class = p[y] * math.log(p[y] / q[y]) + (1.0 - p[y]) * math.log((1.0 - p[y]) / (1.0 - q[y]))
    non_target = kullback_leibler([p[k] / (1.0 - p[y]) for k in others], [q[k] / (1.0 - q[y]) for k in others])
    return TEMPERATURE**2 * (ALPHA * target_class + BETA * non_target)


def other(**fields: float):
    method = Decoupled(**{"alpha": ALPHA, "beta": BETA, "temperature": TEMPERATURE, **fields})
    return lambda _, case: method.loss(case.student, case.teacher, case.batch)


class TestDecoupled(MethodSuite):
    method = Decoupled(alpha=ALPHA, beta=BETA, temperature=TEMPERATURE)
    sabotages: ClassVar = {
        "missing temperature squared": lambda honest, case: honest(case) / TEMPERATURE**2,
        "mean over all positions, labelled or not": lambda honest, case: (
            honest(case) * case.batch.labelled.double().mean()
        ),
        "weights exchanged": other(alpha=BETA, beta=ALPHA),
        "temperature 1": other(temperature=1.0),
    }

    def case(self, seed, count, positions):
        return logits_case(seed, count, positions)

    def reference(self, term, case):
        return mean(two_parts, labelled(case))

    def known_values(self) -> list[tuple[Case, float]]:
        case = logits_case(1, 4)
        of_target = torch.nn.functional.one_hot(case.batch.targets, CLASSES).double()
        uniform = torch.zeros(4, CLASSES, dtype=torch.float64)
        surer = Case(
            case.with_tensors([TEMPERATURE * math.log(3.0) * of_target]).student,
            case.with_tensors([uniform]).student,
            case.batch,
        )  # 1/2 for the true class against 1/4, and the same among the others
        return [
            (case.with_tensors([case.teacher.logits + 5.0]), 0.0),
            (surer, TEMPERATURE**2 * ALPHA * (0.25 * math.log(0.5) + 0.75 * math.log(1.5))),
        ]


def test_without_targets_nothing_counts() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    loss = Decoupled().loss(Knowledge(logits=logits), Knowledge(logits=torch.randn(4, 3)), Batch(torch.zeros(4, 1)))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros(4, 3))


@pytest.mark.parametrize("field", ["alpha", "beta", "temperature"])
def test_no_hyper_parameter_is_negative(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        Decoupled(**{field: -1.0})
