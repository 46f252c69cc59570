import math
from dataclasses import replace
from typing import ClassVar

import torch
from torch import nn

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import BatchCoupledSuite
from understudy import PearsonChannels

STUDENT, TEACHER = (2, 2, 2), (3, 2, 2)


def channels_of(rows: list) -> list[list[float]]:
    """For each channel its values: all pixels of all samples."""
    return [[value for row in rows for line in row[c] for value in line] for c in range(len(rows[0]))]


def projected(weight: list, channels: list[list[float]]) -> list[list[float]]:
    """A 1×1 convolution."""
    return [
        [sum(w[0][0] * channel[m] for w, channel in zip(out, channels, strict=True)) for m in range(len(channels[0]))]
        for out in weight
    ]


def correlation(one: list[float], other: list[float]) -> float:
    """Pearson's coefficient."""
    means = sum(one) / len(one), sum(other) / len(other)
    covariance = sum((a - means[0]) * (b - means[1]) for a, b in zip(one, other, strict=True))
    spreads = sum((a - means[0]) ** 2 for a in one), sum((b - means[1]) ** 2 for b in other)
    return covariance / math.sqrt(spreads[0] * spreads[1])


def decorrelation(term: nn.Module, case: Case) -> float:
    """Cao et al. 2022: one minus the correlation, averaged over the channels."""
    narrow, wide = counted_rows(case)
    if not narrow:
        return 0.0
    weight = term.joined[0].relation.adapter.project.weight.tolist()
    pairs = zip(projected(weight, channels_of(narrow)), channels_of(wide), strict=True)
    return sum(1.0 - correlation(student, teacher) for student, teacher in pairs) / TEACHER[0]


def each_sample_alone(honest, case: Case) -> torch.Tensor:
    counts = torch.ones(case.positions, dtype=torch.bool) if case.batch.mask is None else case.batch.mask
    rows = [row for row in range(len(case.batch)) if counts[row]]
    return torch.stack([honest(case.select([row])) for row in rows]).mean()


class TestPearsonChannels(BatchCoupledSuite):
    method = PearsonChannels(student_layer="narrow", teacher_layer="wide")
    positions = ((),)
    fewest = 1
    sabotages: ClassVar = {
        "not halved": lambda honest, case: honest(case) * 2,
        "sum over the channels": lambda honest, case: honest(case) * TEACHER[0],
        "each sample standardised alone": each_sample_alone,
        "mask forgotten": lambda honest, case: honest(case.masked(torch.ones(case.positions, dtype=torch.bool))),
    }
    bf16_tolerance = 2e-2

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=STUDENT, teacher=TEACHER)

    def reference(self, term, case):
        return decorrelation(term, case)

    def known_values(self):
        case = self.case(1, 4, ())
        adapted = self.term(case).joined[0].relation.adapter(case.student.features["narrow"]).detach()
        per_channel = torch.tensor([1.0, 2.0, 50.0]).double()[:, None, None]
        return [
            (replace(case, teacher=replace(case.teacher, features={"wide": wide})), value)
            for wide, value in ((adapted, 0.0), (per_channel * adapted - per_channel, 0.0), (3.0 - adapted, 2.0))
        ]
