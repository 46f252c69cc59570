from dataclasses import replace
from typing import ClassVar

import torch
from torch import nn

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import BatchCoupledSuite
from understudy import Batch, Knowledge, Overhaul
from understudy.knowledge import Shapes

STUDENT, TEACHER = (2, 2, 2), (3, 2, 2)
ELEMENTS = 12


def values_of(row: list, channel: int) -> list[float]:
    return [value for line in row[channel] for value in line]


def margin_of(rows: list, channel: int) -> float:
    """Heo et al. 2019: the expectation of the negative values of a channel, over the samples there are."""
    negative = []
    for row in rows:
        for value in values_of(row, channel):
            if value < 0:
                negative.append(value)
    return sum(negative) / len(negative) if negative else 0.0


def partial_distance(term: nn.Module, case: Case, margins: list[float] | None = None) -> float:
    """Heo et al. 2019, section 3: the partial L2 distance from the teacher's feature behind the margin ReLU."""
    weight = term.joined[0].adapter.project.weight.tolist()
    rows, answers = counted_rows(case)
    total = 0.0
    for narrow, wide in zip(rows, answers, strict=True):
        for c in range(TEACHER[0]):
            margin = margins[c] if margins else margin_of(answers, c)
            for pixel, value in enumerate(values_of(wide, c)):
                student = sum(weight[c][k][0][0] * values_of(narrow, k)[pixel] for k in range(STUDENT[0]))
                target = value if value > margin else margin
                if not student <= target <= 0:
                    total += (student - target) ** 2
    return total / len(rows) if rows else 0.0


def each_sample_alone(honest, case: Case) -> torch.Tensor:
    counts = torch.ones(case.positions, dtype=torch.bool) if case.batch.mask is None else case.batch.mask
    rows = [row for row in range(len(case.batch)) if counts[row]]
    return torch.stack([honest(case.select([row])) for row in rows]).mean()


def of_teacher(case: Case, wide: torch.Tensor) -> Case:
    return replace(case, teacher=replace(case.teacher, features={"wide": wide}))


def whole_distance(_honest, case: Case) -> torch.Tensor:
    """A plain squared distance."""
    adapted = TestOverhaul().term(case).joined[0].adapter(case.student.features["narrow"])
    squared = (adapted - case.teacher.features["wide"]).square().flatten(1).sum(1)
    return squared.mean() if case.batch.mask is None else squared[case.batch.mask].mean()


class TestOverhaul(BatchCoupledSuite):
    method = Overhaul(student_layer="narrow", teacher_layer="wide")
    positions = ((),)
    fewest = 1
    sabotages: ClassVar = {
        "mean over the elements": lambda honest, case: honest(case) / ELEMENTS,
        "no margin": lambda honest, case: honest(of_teacher(case, case.teacher.features["wide"].clamp_min(0.0))),
        "whole distance": whole_distance,
        "each sample has margins of its own": each_sample_alone,
        "mask forgotten": lambda honest, case: honest(case.masked(torch.ones(case.positions, dtype=torch.bool))),
    }
    bf16_tolerance = 2e-2

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=STUDENT, teacher=TEACHER)

    def reference(self, term, case):
        return partial_distance(term, case)

    def known_values(self):
        """At equality; a positive teacher missed by 2; a teacher at its margin of -3 and a student at 0."""
        case = self.case(1, 4, ())
        adapted = self.term(case).joined[0].adapter(case.student.features["narrow"]).detach()
        nowhere = case.with_tensors([case.student.logits, torch.zeros_like(case.student.features["narrow"])])
        return [
            (of_teacher(case, adapted), 0.0),
            (of_teacher(nowhere, torch.full_like(adapted, 2.0)), ELEMENTS * 4.0),
            (of_teacher(nowhere, torch.full_like(adapted, -3.0)), ELEMENTS * 9.0),
        ]


def test_a_student_below_a_negative_target_is_left_alone_and_values_beyond_the_margin_are_not_asked_for() -> None:
    feature = torch.tensor([-5.0, -3.0, -3.0, -3.0]).reshape(1, 1, 2, 2)
    answer = torch.tensor([-1.0, -3.0, 2.0, 0.0]).reshape(1, 1, 2, 2)  # a margin of -2
    shown = Knowledge(logits=torch.zeros(1, 2), features={"a": feature.requires_grad_()})
    taught = Knowledge(logits=torch.zeros(1, 2), features={"b": answer})
    term = Overhaul(student_layer="a", teacher_layer="b").build(Shapes.of(shown, taught))
    loss = term(shown, taught, Batch(inputs=torch.zeros(1, 1)))
    (gradient,) = torch.autograd.grad(loss, feature)
    assert loss.item() == 25.0
    assert gradient.flatten().tolist() == [0.0, 0.0, -10.0, 0.0]
    above = Knowledge(logits=shown.logits, features={"a": torch.zeros(1, 1, 2, 2)})
    assert term(above, taught, Batch(inputs=torch.zeros(1, 1))).item() == 1.0 + 4.0 + 4.0


def test_behind_a_relu_it_is_a_regression_of_what_is_positive() -> None:
    student, teacher = torch.randn(3, 2, 2, 2).relu(), torch.randn(3, 2, 2, 2).relu()
    shown, taught = (Knowledge(logits=torch.zeros(3, 2), features={"a": feature}) for feature in (student, teacher))
    term = Overhaul(student_layer="a", teacher_layer="a").build(Shapes.of(shown, taught))
    loss = term(shown, taught, Batch(inputs=torch.zeros(3, 1)))
    torch.testing.assert_close(loss, (student - teacher).square().sum() / 3)
