from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import MethodSuite
from understudy import ActivationBoundaries

WIDTHS, MARGIN = (3, 5), 0.7


def boundary_distance(term: nn.Module, case: Case) -> float:
    """Heo et al. 2019: how far each neuron is from the margin on the teacher's side, squared and summed."""
    weight = term.joined[0].adapter.weight.tolist()
    total, count = 0.0, 0
    for narrow, wide in zip(*counted_rows(case), strict=True):
        count += 1
        for row, target in zip(weight, wide, strict=True):
            neuron = sum(w * value for w, value in zip(row, narrow, strict=True))
            if target > 0 and neuron < MARGIN:
                total += (MARGIN - neuron) ** 2
            if target <= 0 and neuron > -MARGIN:
                total += (MARGIN + neuron) ** 2
    return total / count if count else 0.0


class TestActivationBoundaries(MethodSuite):
    method = ActivationBoundaries(student_layer="narrow", teacher_layer="wide", margin=MARGIN)
    sabotages: ClassVar = {
        "mean over the neurons": lambda honest, case: honest(case) / WIDTHS[1],
        "the other side": lambda honest, case: honest(of_teacher(case, -case.teacher.features["wide"])),
        "mask forgotten": lambda honest, case: honest(case.masked(torch.ones(case.positions, dtype=torch.bool))),
    }
    bf16_tolerance = 2e-2

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=(WIDTHS[0],), teacher=(WIDTHS[1],))

    def reference(self, term, case):
        return boundary_distance(term, case)

    def known_values(self):
        """Far on the right side, on it by less than the margin, and on the boundary."""
        case = self.case(1, 4, ())
        adapted = self.term(case).joined[0].adapter(case.student.features["narrow"]).detach()
        far = case.with_tensors([case.student.logits, case.student.features["narrow"] * MARGIN / adapted.abs().min()])
        nowhere = case.with_tensors([case.student.logits, torch.zeros_like(case.student.features["narrow"])])
        return [(of_teacher(far, adapted), 0.0), (nowhere, WIDTHS[1] * MARGIN**2)]


def of_teacher(case: Case, wide: torch.Tensor) -> Case:
    return replace(case, teacher=replace(case.teacher, features={"wide": wide}))


def test_only_the_teachers_signs_count() -> None:
    suite = TestActivationBoundaries()
    case = suite.case(1, 6, ())
    signs = of_teacher(case, 1e-3 * case.teacher.features["wide"].sign())
    assert torch.equal(suite.loss(case), suite.loss(signs))


@pytest.mark.parametrize("margin", [0.0, -1.0, float("inf")])
def test_the_margin_is_a_positive_number(margin: float) -> None:
    with pytest.raises(ValidationError, match="margin"):
        ActivationBoundaries(margin=margin)
