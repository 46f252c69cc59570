import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import MethodSuite
from understudy import ChannelWise

TEMPERATURE = 3.0
STUDENT, TEACHER = (2, 2, 3), (4, 2, 3)


def distribution(channel: list[list[float]]) -> list[float]:
    """Shu et al. 2021: softmax over the pixels of a channel."""
    exponentials = [math.exp(value / TEMPERATURE) for row in channel for value in row]
    return [value / sum(exponentials) for value in exponentials]


def projected(weight: list, feature: list) -> list:
    """A 1×1 convolution."""
    rows, columns = range(len(feature[0])), range(len(feature[0][0]))
    return [
        [[sum(w[0][0] * channel[y][x] for w, channel in zip(out, feature, strict=True)) for x in columns] for y in rows]
        for out in weight
    ]


def channel_divergence(term: nn.Module, case: Case) -> float:
    """The temperature squared over the channels, times the divergence summed over pixels and channels."""
    weight = term.joined[0].adapter.project.weight.tolist()
    total, count = 0.0, 0
    for narrow, wide in zip(*counted_rows(case), strict=True):
        count += 1
        for student, teacher in zip(projected(weight, narrow), wide, strict=True):
            p, q = distribution(teacher), distribution(student)
            for i in range(len(p)):
                total += TEMPERATURE**2 / TEACHER[0] * p[i] * math.log(p[i] / q[i])
    return total / count if count else 0.0


class TestChannelWise(MethodSuite):
    method = ChannelWise(student_layer="narrow", teacher_layer="wide", temperature=TEMPERATURE)
    positions = ((),)
    sabotages: ClassVar = {
        "missing temperature squared": lambda honest, case: honest(case) / TEMPERATURE**2,
        "sum over the channels": lambda honest, case: honest(case) * TEACHER[0],
        "mean over the pixels": lambda honest, case: honest(case) / 6,
    }
    bf16_tolerance = 3e-2

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=STUDENT, teacher=TEACHER)

    def reference(self, term, case):
        return channel_divergence(term, case)

    def known_values(self):
        case = self.case(1, 4, ())
        adapted = self.term(case).joined[0].adapter(case.student.features["narrow"]).detach()
        per_channel = torch.arange(4.0).double()[:, None, None]
        return [
            (replace(case, teacher=replace(case.teacher, features={"wide": adapted + shift})), 0.0)
            for shift in (0.0, per_channel)
        ]


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf")])
def test_the_temperature_is_a_positive_number(temperature: float) -> None:
    with pytest.raises(ValidationError, match="temperature"):
        ChannelWise(temperature=temperature)
