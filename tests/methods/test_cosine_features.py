import math
from dataclasses import replace
from typing import ClassVar

import torch
from torch import nn

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import MethodSuite
from understudy import Batch, CosineFeatures, Knowledge
from understudy.knowledge import Shapes

WIDTHS = 3, 5


def cosine(one: list[float], other: list[float]) -> float:
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / math.sqrt(sum(a * a for a in one)) / math.sqrt(sum(b * b for b in other))


def cosine_distance(term: nn.Module, case: Case) -> float:
    """One minus the cosine between the student's vector after its adapter, a matrix, and the teacher's."""
    weight = term.joined[0].adapter.weight.tolist()
    total, count = 0.0, 0
    for narrow, wide in zip(*counted_rows(case), strict=True):
        adapted = [sum(w * value for w, value in zip(row, narrow, strict=True)) for row in weight]
        total += 1.0 - cosine(adapted, wide)
        count += 1
    return total / count if count else 0.0


class TestCosineFeatures(MethodSuite):
    method = CosineFeatures(student_layer="narrow", teacher_layer="wide")
    sabotages: ClassVar = {
        "mean over the channels": lambda honest, case: honest(case) / WIDTHS[1],
        "half, a squared distance": lambda honest, case: honest(case) * 2,
        "similarity, not distance": lambda honest, case: 1.0 - honest(case),
        "mask forgotten": lambda honest, case: honest(case.masked(torch.ones(case.positions, dtype=torch.bool))),
    }
    bf16_tolerance = 2e-2

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=(WIDTHS[0],), teacher=(WIDTHS[1],))

    def reference(self, term, case):
        return cosine_distance(term, case)

    def known_values(self):
        case = self.case(1, 4, ())
        adapted = self.term(case).joined[0].adapter(case.student.features["narrow"]).detach()
        return [
            (replace(case, teacher=replace(case.teacher, features={"wide": factor * adapted})), value)
            for factor, value in ((1.0, 0.0), (5.0, 0.0), (-0.1, 2.0))
        ]


def test_each_pixel_of_a_map_has_a_direction_of_its_own() -> None:
    """Two pixels: one at a right angle, one equal but three times as long."""
    student = torch.tensor([[[[1.0, 1.0]], [[0.0, 1.0]]]])
    teacher = torch.tensor([[[[0.0, 3.0]], [[1.0, 3.0]]]])
    shown = Knowledge(logits=torch.zeros(1, 2), features={"a": student})
    answer = Knowledge(logits=torch.zeros(1, 2), features={"b": teacher})
    term = CosineFeatures(student_layer="a", teacher_layer="b").build(Shapes.of(shown, answer))
    torch.testing.assert_close(term(shown, answer, Batch(inputs=torch.zeros(1, 1))).item(), 0.5)
