import math
from dataclasses import replace
from typing import ClassVar

import torch

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import MethodSuite
from understudy import NeuronSelectivity


def kernel(one: list[float], other: list[float]) -> float:
    """Huang and Wang 2017: polynomial, d = 2 and c = 0."""
    return sum(a * b for a, b in zip(one, other, strict=True)) ** 2


def patterns(feature: list) -> list[list[float]]:
    """The pixels of each channel as a vector of length 1."""
    flat = [[value for row in channel for value in row] for channel in feature]
    return [[value / math.sqrt(sum(v * v for v in channel)) for value in channel] for channel in flat]


def discrepancy(case: Case) -> float:
    """The squared MMD, averaged over the samples that count."""
    total, count = 0.0, 0
    for narrow, wide in zip(*counted_rows(case), strict=True):
        student, teacher = patterns(narrow), patterns(wide)
        total += sum(kernel(a, b) for a in student for b in student) / len(student) ** 2
        total += sum(kernel(a, b) for a in teacher for b in teacher) / len(teacher) ** 2
        total -= 2 * sum(kernel(a, b) for a in student for b in teacher) / (len(student) * len(teacher))
        count += 1
    return total / count if count else 0.0


class TestNeuronSelectivity(MethodSuite):
    method = NeuronSelectivity(student_layer="narrow", teacher_layer="wide")
    positions = ((),)
    sabotages: ClassVar = {
        "half": lambda honest, case: honest(case) / 2,
        "sum over the channels": lambda honest, case: honest(case) * 2 * 3,
        "a channel less": lambda honest, case: honest(case.with_tensors([case.student.logits, channels(case)[:, :1]])),
        "not at length 1": lambda honest, case: honest(
            case.with_tensors([case.student.logits, channels(case).square()])
        ),
    }

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=(2, 2, 2), teacher=(3, 2, 2))

    def reference(self, term, case):
        return discrepancy(case)

    def known_values(self):
        case = self.case(1, 4, ())
        feature = case.teacher.features["wide"]
        shuffled = 3.0 * feature[:, [2, 0, 1]]
        left, right = torch.zeros(2, 4, 1, 1, 2).double()
        left[..., 0], right[..., 1] = 3.0, 0.5
        apart = replace(case, teacher=replace(case.teacher, features={"wide": right}))
        return [
            (case.with_tensors([case.student.logits, shuffled]), 0.0),
            (apart.with_tensors([case.student.logits, left]), 2.0),
        ]


def channels(case: Case) -> torch.Tensor:
    return case.student.features["narrow"]


class TestNeuronSelectivityOfManyPixels(TestNeuronSelectivity):
    """More pixels than channels: computed by pairs of channels."""

    test_compiled_equals_eager = None

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=(2, 3, 4), teacher=(3, 3, 4))
