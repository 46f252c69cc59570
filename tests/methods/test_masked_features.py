import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from conformance.case import Case, counted_rows, features_case
from conformance.maps import Map, convolved
from conformance.method_suite import MethodSuite
from understudy import MaskedFeatures

STUDENT, TEACHER = (2, 2, 3), (3, 2, 3)
CHANNELS, HEIGHT, WIDTH = TEACHER
TEMPERATURE, ATTENTION = 0.5, 2.0


def activities(feature: Map) -> tuple[list[float], list[float]]:
    """The mean absolute value of each pixel, over channels, and of each channel, over pixels."""
    pixels = [
        sum(abs(feature[c][y][x]) for c in range(CHANNELS)) / CHANNELS for y in range(HEIGHT) for x in range(WIDTH)
    ]
    channels = [sum(abs(value) for line in plane for value in line) / (HEIGHT * WIDTH) for plane in feature]
    return pixels, channels


def shares(one: list[float], other: list[float]) -> list[float]:
    """As many times the softmax of both together as there are items."""
    exponentials = [math.exp((a + b) / TEMPERATURE) for a, b in zip(one, other, strict=True)]
    return [len(one) * value / sum(exponentials) for value in exponentials]


def euclidean(one: list[float], other: list[float]) -> float:
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)))


def masked_distance(term: nn.Module, case: Case, attention: float = ATTENTION) -> float:
    """Zhang and Ma 2021: L_AM + λ L_AT of each sample, after a 1×1 convolution; the mean over those that count."""
    weight = term.joined[0].adapter.project.weight.tolist()
    values = []
    for narrow, wide in zip(*counted_rows(case), strict=True):
        mine = convolved(weight, None, narrow)
        (pixels, channels), (other_pixels, other_channels) = activities(mine), activities(wide)
        of_pixels, of_channels = shares(pixels, other_pixels), shares(channels, other_channels)
        total = 0.0
        for c in range(CHANNELS):
            for y in range(HEIGHT):
                for x in range(WIDTH):
                    total += of_channels[c] * of_pixels[y * WIDTH + x] * (mine[c][y][x] - wide[c][y][x]) ** 2
        transfer = euclidean(pixels, other_pixels) + euclidean(channels, other_channels)
        values.append(math.sqrt(total) + attention * transfer)
    return sum(values) / len(values) if values else 0.0


class TestMaskedFeatures(MethodSuite):
    method = MaskedFeatures(student_layer="narrow", teacher_layer="wide", temperature=TEMPERATURE, attention=ATTENTION)
    positions = ((),)
    sabotages: ClassVar = {
        "one norm of the whole batch": lambda honest, case: honest(case) * math.sqrt(len(case.batch)),
        "mask forgotten": lambda honest, case: honest(case.masked(torch.ones(case.positions, dtype=torch.bool))),
        "another temperature": lambda _, case: _another(case, temperature=2 * TEMPERATURE),
        "without the attention": lambda _, case: _another(case, attention=0.0),
    }
    bf16_tolerance = 3e-2
    test_its_gradient_is_that_of_its_value = None  # the masks are constants of the loss: see below

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=STUDENT, teacher=TEACHER)

    def reference(self, term, case):
        return masked_distance(term, case)

    def known_values(self):
        """At equality; and where everything is evenly active, so that the masks are 1."""
        case = self.case(1, 4, ())
        narrow = torch.ones_like(case.student.features["narrow"])
        case = replace(case, student=replace(case.student, features={"narrow": narrow}))
        adapted = self.term(case).joined[0].adapter(narrow).detach()
        level = (adapted.abs() + 1.0).mean() * torch.ones_like(adapted)
        nothing = replace(case, student=replace(case.student, features={"narrow": 0.0 * narrow}))
        far = level[0, 0, 0, 0].item() * (math.sqrt(18) + ATTENTION * (math.sqrt(6) + math.sqrt(3)))
        return [(_answered(case, adapted), 0.0), (_answered(nothing, level), far)]


def _answered(case: Case, answer: torch.Tensor) -> Case:
    return replace(case, teacher=replace(case.teacher, features={"wide": answer}))


def _another(case: Case, **changes: float) -> torch.Tensor:
    torch.manual_seed(0)
    term = TestMaskedFeatures.method.model_copy(update=changes).build(case.shapes).to(case.student.logits.dtype)
    return term(case.student, case.teacher, case.batch)


def test_its_gradient_is_that_of_its_value_at_given_masks() -> None:
    """Numerically, with masks from where the gradient is taken: those move the value, and not the gradient."""
    case = features_case(2, 1, (), student=TEACHER, teacher=TEACHER)
    term = TestMaskedFeatures.method.build(case.shapes).double()
    feature = case.student.features["narrow"].requires_grad_()
    term(case.student, case.teacher, case.batch).backward()
    wide = case.teacher.features["wide"][0].tolist()

    def value(mine: Map, masks_of: Map) -> float:
        fixed, other = activities(masks_of), activities(wide)
        of_pixels, of_channels = shares(fixed[0], other[0]), shares(fixed[1], other[1])
        total = sum(
            of_channels[c] * of_pixels[y * WIDTH + x] * (mine[c][y][x] - wide[c][y][x]) ** 2
            for c in range(CHANNELS)
            for y in range(HEIGHT)
            for x in range(WIDTH)
        )
        pixels, channels = activities(mine)
        return math.sqrt(total) + ATTENTION * (euclidean(pixels, other[0]) + euclidean(channels, other[1]))

    here = feature.detach()[0].tolist()
    for c in range(CHANNELS):
        for y in range(HEIGHT):
            for x in range(WIDTH):
                ends = []
                for step in (1e-6, -1e-6):
                    moved = feature.detach()[0].clone()
                    moved[c, y, x] += step
                    ends.append(value(moved.tolist(), here))
                assert feature.grad[0, c, y, x].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6)


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"attention": -1.0}])
def test_the_temperature_is_positive_and_the_weight_is_not_negative(wrong) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        MaskedFeatures(**wrong)
