import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from conformance.case import Case, logits_case
from conformance.maps import Map, averaged, convolved, mean_square, nearest
from conformance.method_suite import BatchCoupledSuite
from understudy import Batch, InputError, Knowledge, Review
from understudy.knowledge import Shapes

STUDENT = {"early": (2, 5, 5), "late": (2, 3, 2)}
TEACHER = {"first": (2, 5, 6), "last": (3, 2, 3)}
"""Behind the batch. The deeper map shrinks in height and grows in width, the other only grows."""


def normal(rows: list[Map], weight: list[float], bias: list[float]) -> list[Map]:
    """Ioffe and Szegedy 2015, algorithm 1: each channel by all pixels of all rows."""
    answer = [[None] * len(weight) for _ in rows]
    for c in range(len(weight)):
        values = [value for row in rows for line in row[c] for value in line]
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        for index, row in enumerate(rows):
            answer[index][c] = [
                [weight[c] * (value - mean) / math.sqrt(variance + 1e-5) + bias[c] for value in line] for line in row[c]
            ]
    return answer


def fused(mine: Map, deeper: Map, weight: list, bias: list[float]) -> Map:
    """Figure 4a of Chen et al. 2021: two attention maps of both weigh both."""
    deeper = nearest(deeper, (len(mine[0]), len(mine[0][0])))
    scores = convolved(weight, bias, mine + deeper)
    answer = []
    for plane, other in zip(mine, deeper, strict=True):
        lines = []
        for y in range(len(plane)):
            line = []
            for x in range(len(plane[0])):
                a, b = (1.0 / (1.0 + math.exp(-score[y][x])) for score in scores)
                line.append(a * plane[y][x] + b * other[y][x])
            lines.append(line)
        answer.append(lines)
    return answer


def resized(feature: Map, size: tuple[int, int]) -> Map:
    smaller = min(size[0], len(feature[0])), min(size[1], len(feature[0][0]))
    return nearest(averaged(feature, smaller), size)


def context(one: Map, other: Map) -> float:
    """Figure 4b: the difference, and with halved weights those of the averages over 4×4, 2×2 and 1×1 cells."""
    total, weight, weights = mean_square(one, other), 1.0, 1.0
    for grid in (4, 2, 1):
        if grid < len(one[0]) and grid < len(one[0][0]):
            weight /= 2
            total += weight * mean_square(averaged(one, (grid, grid)), averaged(other, (grid, grid)))
            weights += weight
    return total / weights


def reviewed(term: nn.Module, case: Case) -> float:
    """Figure 3: from the deepest layer on, each is fused with what came before and compared with the teacher's."""
    counts = torch.ones(case.positions, dtype=torch.bool) if case.batch.mask is None else case.batch.mask
    if not counts.any():
        return 0.0
    loss, deeper = 0.0, None
    for index, own, other in ((1, "late", "last"), (0, "early", "first")):
        parameters = {name: value.tolist() for name, value in term.fusions[index].named_parameters()}
        rows, answers = case.student.features[own][counts].tolist(), case.teacher.features[other][counts].tolist()
        mine = [convolved(parameters["enter.weight"], None, row) for row in rows]
        mine = normal(mine, parameters["enter_norm.weight"], parameters["enter_norm.bias"])
        if deeper:
            attention = parameters["attention.weight"], parameters["attention.bias"]
            mine = [fused(row, behind, *attention) for row, behind in zip(mine, deeper, strict=True)]
        deeper = [resized(row, TEACHER[other][1:]) for row in mine]
        generated = [convolved(parameters["leave.weight"], None, row) for row in deeper]
        generated = normal(generated, parameters["leave_norm.weight"], parameters["leave_norm.bias"])
        values = [context(row, answer) for row, answer in zip(generated, answers, strict=True)]
        loss += sum(values) / len(values)
    return loss


def random_features(shapes: dict[str, tuple[int, ...]], seed: int, count: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(100 + seed)
    return {name: torch.randn((count, *shape), generator=generator).double() for name, shape in shapes.items()}


def each_layer_alone(_honest, case: Case) -> torch.Tensor:
    term = TestReview().term(case)
    term.fusions[0].attention = None
    return term(case.student, case.teacher, case.batch)


def without_the_norms(_honest, case: Case) -> torch.Tensor:
    term = TestReview().term(case)
    for fusion in term.fusions:
        fusion.leave_norm.forward = lambda feature, _mask: feature
    return term(case.student, case.teacher, case.batch)


def generated_by(term: nn.Module, case: Case) -> dict[str, torch.Tensor]:
    deep, last = term.fusions[1](case.student.features["late"], None, None)
    return {"first": term.fusions[0](case.student.features["early"], deep, None)[1].detach(), "last": last.detach()}


class TestReview(BatchCoupledSuite):
    method = Review(student_layer=("early", "late"), teacher_layer=("first", "last"))
    positions = ((),)
    fewest = 1
    sabotages: ClassVar = {
        "each layer alone": each_layer_alone,
        "without the normalisation": without_the_norms,
        "mask forgotten": lambda honest, case: honest(case.masked(torch.ones(case.positions, dtype=torch.bool))),
    }
    bf16_tolerance = 5e-2

    def case(self, seed, count, positions):
        case = logits_case(seed, count, positions)
        return replace(
            case,
            student=replace(case.student, features=random_features(STUDENT, seed, count)),
            teacher=replace(case.teacher, features=random_features(TEACHER, seed + 1, count)),
        )

    def term(self, case, *, seed=0):
        """With normalisations whose scale and shift matter."""
        term = super().term(case, seed=seed)
        for name, parameter in term.named_parameters():
            if "norm" in name:
                nn.init.uniform_(parameter, 0.5, 1.5)
        return term

    def reference(self, term, case):
        return reviewed(term, case)

    def known_values(self):
        """At equality; 2 beyond everywhere, which is so on each grid."""
        case = self.case(1, 4, ())
        equal = generated_by(self.term(case), case)
        return [
            (replace(case, teacher=replace(case.teacher, features=equal)), 0.0),
            (replace(case, teacher=replace(case.teacher, features={k: v + 2.0 for k, v in equal.items()})), 8.0),
        ]


def built(method: Review, student: dict, teacher: dict) -> nn.Module:
    shapes = Shapes(
        student={name: torch.Size((2, *shape)) for name, shape in student.items()},
        teacher={name: torch.Size((2, *shape)) for name, shape in teacher.items()},
        student_logits=torch.Size((2, 5)),
        teacher_logits=torch.Size((2, 5)),
    )
    return method.build(shapes)


def test_a_single_pair_has_nothing_to_fuse() -> None:
    term = built(Review(student_layer="a", teacher_layer="b"), {"a": (4, 3, 3)}, {"b": (6, 3, 3)})
    assert term.fusions[0].attention is None
    shown, taught = (Knowledge(torch.zeros(2, 5), {n: torch.randn(2, c, 3, 3)}) for n, c in (("a", 4), ("b", 6)))
    term(shown, taught, Batch(torch.zeros(2, 1))).backward()
    assert all(parameter.grad is not None for parameter in term.parameters())


def test_a_shallow_teacher_layer_trains_deep_student_layers() -> None:
    case = TestReview().case(1, 4, ()).leaves()
    term = TestReview().term(case)
    features = case.student.features
    deep, _ = term.fusions[1](features["late"], None, None)
    term.fusions[0](features["early"], deep, None)[1].square().sum().backward()
    assert features["late"].grad.abs().sum() > 0


def test_the_channels_are_those_of_the_deepest_layer_up_to_a_limit() -> None:
    layers = {"student_layer": ("a", "b"), "teacher_layer": ("x", "y")}
    student, teacher = {"a": (4, 4, 4), "b": (8, 2, 2)}, {"x": (3, 4, 4), "y": (5, 2, 2)}
    assert [f.enter.out_channels for f in built(Review(**layers), student, teacher).fusions] == [8, 8]
    assert [f.enter.out_channels for f in built(Review(**layers, most_channels=6), student, teacher).fusions] == [6, 6]


def test_every_layer_that_is_no_map_is_named() -> None:
    method = Review(student_layer=("a", "b"), teacher_layer=("x", "y"))
    with pytest.raises(InputError) as caught:
        built(method, {"a": (31, 8), "b": (8, 2, 2)}, {"x": (3, 4, 4), "y": (31, 8)})
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "review ('a' to 'x')",
        "review ('b' to 'y')",
    ]
