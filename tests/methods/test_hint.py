from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import MethodSuite
from understudy import Batch, Hint, InputError, Knowledge
from understudy.knowledge import Shapes

WIDTHS = 3, 5


def squared_distance(term: nn.Module, case: Case) -> float:
    """Romero et al. 2015, eq. 3, as a mean: the squared difference after the regressor r, here a matrix."""
    weight = term.joined[0].adapter.weight.tolist()
    total, count = 0.0, 0
    for narrow, wide in zip(*counted_rows(case), strict=True):
        for row, target in zip(weight, wide, strict=True):
            count += 1
            total += (sum(w * value for w, value in zip(row, narrow, strict=True)) - target) ** 2
    return total / count if count else 0.0


class TestHint(MethodSuite):
    method = Hint(student_layer="narrow", teacher_layer="wide")
    sabotages: ClassVar = {
        "sum over the feature": lambda honest, case: honest(case) * WIDTHS[1],
        "half": lambda honest, case: honest(case) / 2,
        "mask forgotten": lambda honest, case: honest(case.masked(torch.ones(case.positions, dtype=torch.bool))),
    }
    bf16_tolerance = 2e-2

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=(WIDTHS[0],), teacher=(WIDTHS[1],))

    def reference(self, term, case):
        return squared_distance(term, case)

    def known_values(self):
        case = self.case(1, 4, ())
        adapted = self.term(case).joined[0].adapter(case.student.features["narrow"]).detach()
        return [
            (replace(case, teacher=replace(case.teacher, features={"wide": adapted})), 0.0),
            (replace(case, teacher=replace(case.teacher, features={"wide": adapted + 2.0})), 4.0),
        ]


def test_a_feature_of_another_resolution_than_the_logits_counts_wholly() -> None:
    """Pixel-wise logits (N, H, W, K) with a mask per pixel, and features of a quarter of the resolution."""
    student, teacher = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    mask = torch.rand(2, 4, 4) < 0.5
    shown = Knowledge(logits=torch.randn(2, 4, 4, 5), features={"a": student}, mask=mask)
    answer = Knowledge(logits=torch.randn(2, 4, 4, 5), features={"b": teacher}, mask=mask)
    term = Hint(student_layer="a", teacher_layer="b").build(Shapes.of(shown, answer))
    loss = term(shown, answer, Batch(inputs=torch.zeros(2, 1), valid_total=torch.tensor(7.0)))
    torch.testing.assert_close(loss, (student - teacher).square().mean())


def test_the_adapter_belongs_to_the_term_and_an_error_names_the_layers() -> None:
    shapes = Shapes(
        student={"a": torch.Size([2, 3])},
        teacher={"b": torch.Size([2, 4, 8, 8])},
        student_logits=torch.Size([2, 5]),
        teacher_logits=torch.Size([2, 5]),
    )
    with pytest.raises(InputError, match=r"hint \('a' to 'b'\).*\(N, 3\).*\(N, 4, 8, 8\)"):
        Hint(student_layer="a", teacher_layer="b").build(shapes)
    fitting = replace(shapes, student={"a": torch.Size([2, 6, 4, 4])})
    term = Hint(student_layer="a", teacher_layer="b").build(fitting)
    assert [tuple(p.shape) for p in term.parameters()] == [(4, 6, 1, 1)]
