import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import MethodSuite
from understudy import Batch, InputError, Knowledge, Variational
from understudy.knowledge import Shapes

WIDTHS = 3, 5


def predicted(term: nn.Module, vector: list[float]) -> list[float]:
    """The mean network: three matrices with ReLUs between them."""
    layers = [layer for layer in term.joined[0].mean if isinstance(layer, nn.Linear)]
    for number, layer in enumerate(layers):
        if number:
            vector = [max(0.0, value) for value in vector]
        vector = [sum(w * value for w, value in zip(row, vector, strict=True)) for row in layer.weight.tolist()]
    return vector


def surprise(term: nn.Module, case: Case) -> float:
    """Ahn et al. 2019: minus the logarithm of the Gaussian density, less its constant, as a mean."""
    variances = [math.log(1.0 + math.exp(alpha)) + 1e-5 for alpha in term.joined[0].alpha.tolist()]
    total, count = 0.0, 0
    for narrow, wide in zip(*counted_rows(case), strict=True):
        for mean, value, variance in zip(predicted(term, narrow), wide, variances, strict=True):
            total += math.log(math.sqrt(variance)) + (value - mean) ** 2 / (2 * variance)
            count += 1
    return total / count if count else 0.0


class TestVariational(MethodSuite):
    method = Variational(student_layer="narrow", teacher_layer="wide", variance=2.0)
    sabotages: ClassVar = {
        "sum over the channels": lambda honest, case: honest(case) * WIDTHS[1],
        "not halved": lambda honest, case: honest(case) * 2,
        "without the logarithm": lambda honest, case: honest(case) - 0.5 * math.log(2.0),
        "mask forgotten": lambda honest, case: honest(case.masked(torch.ones(case.positions, dtype=torch.bool))),
    }
    bf16_tolerance = 5e-2

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=(WIDTHS[0],), teacher=(WIDTHS[1],))

    def term(self, case, *, seed=0):
        """With another variance in each channel."""
        term = super().term(case, seed=seed)
        with torch.no_grad():
            term.joined[0].alpha += 0.1 * torch.arange(WIDTHS[1]).to(term.joined[0].alpha)
        return term

    def reference(self, term, case):
        return surprise(term, case)

    def known_values(self):
        """Where the prediction is right, half the mean logarithm of the variances; and 2 standard deviations away."""
        case = self.case(1, 4, ())
        term = self.term(case).joined[0]
        mean = term.mean(case.student.features["narrow"]).detach()
        variance = torch.nn.functional.softplus(term.alpha.detach()) + 1e-5
        least = 0.5 * variance.log().mean().item()
        return [
            (replace(case, teacher=replace(case.teacher, features={"wide": mean + away * variance.sqrt()})), value)
            for away, value in ((0.0, least), (2.0, least + 2.0))
        ]


def test_is_zero_for_a_right_prediction_and_a_variance_of_one_and_negative_for_a_smaller_one() -> None:
    features = torch.zeros(2, 3)
    shown, answer = (Knowledge(logits=torch.zeros(2, 2), features={"a": features}) for _ in range(2))
    for variance, expected in ((1.0, 0.0), (0.01, 0.5 * math.log(0.01)), (5.0, 0.5 * math.log(5.0))):
        term = Variational(student_layer="a", teacher_layer="a", variance=variance).build(Shapes.of(shown, answer))
        loss = term(shown, answer, Batch(inputs=torch.zeros(2, 1)))
        torch.testing.assert_close(loss.item(), expected, rtol=1e-4, atol=1e-6)


def test_maps_are_predicted_by_convolutions_at_the_size_of_the_teachers() -> None:
    shown = Knowledge(logits=torch.zeros(2, 2), features={"a": torch.randn(2, 3, 4, 4)})
    answer = Knowledge(logits=torch.zeros(2, 2), features={"b": torch.randn(2, 5, 2, 2)})
    term = Variational(student_layer="a", teacher_layer="b").build(Shapes.of(shown, answer))
    shapes = [tuple(parameter.shape) for parameter in term.parameters()]
    assert shapes == [(5,), (5, 3, 1, 1), (5, 5, 1, 1), (5, 5, 1, 1)]
    mean = term.joined[0].mean(shown.features["a"])
    squared = (mean - answer.features["b"]).square().mean()
    loss = term(shown, answer, Batch(inputs=torch.zeros(2, 1)))
    torch.testing.assert_close(loss, 0.5 * (squared / 5.0 + math.log(5.0)))


def test_what_does_not_fit_is_named() -> None:
    shown = Knowledge(logits=torch.zeros(2, 2), features={"a": torch.randn(2, 3)})
    answer = Knowledge(logits=torch.zeros(2, 2), features={"b": torch.randn(2, 5, 2, 2)})
    with pytest.raises(InputError, match=r"variational \('a' to 'b'\).*\(N, 3\).*\(N, 5, 2, 2\)"):
        Variational(student_layer="a", teacher_layer="b").build(Shapes.of(shown, answer))


@pytest.mark.parametrize("variance", [0.0, 1e-5, -1.0, float("inf")])
def test_the_variance_is_positive(variance: float) -> None:
    with pytest.raises(ValidationError, match="variance"):
        Variational(variance=variance)
