import math
from dataclasses import replace
from typing import ClassVar

import pytest
import timm
import torch
import torchvision
from torch import nn

from conformance.case import CLASSES, Case, features_case
from conformance.maps import Map, averaged
from conformance.method_suite import MethodSuite
from understudy import ClassAttention, Distiller, InputError
from understudy.knowledge import LayerPairs

STUDENT, TEACHER = (2, 3, 4), (3, 4, 5)
GRID = 2
LAYERS = {
    "student_layer": "narrow",
    "teacher_layer": "wide",
    "student_classifier": "fc.weight",
    "teacher_classifier": "head.weight",
}


def class_map(feature: Map, weights: list[float]) -> list[list[float]]:
    """Zhou et al. 2016, eq. 2: what the classifier would say of each pixel."""
    return [
        [sum(w * feature[c][y][x] for c, w in enumerate(weights)) for x in range(len(feature[0][0]))]
        for y in range(len(feature[0]))
    ]


def shown_by(feature: Map, weights: list[float], unit_length: bool) -> list[float]:
    """Guo et al. 2023: averaged to the grid, and divided by its length."""
    (cells,) = averaged([class_map(feature, weights)], (GRID, GRID))
    values = [value for line in cells for value in line]
    length = math.sqrt(sum(value**2 for value in values)) if unit_length else 1.0
    return [value / length for value in values]


def difference(term: nn.Module, case: Case) -> float:
    counts = torch.ones(case.positions, dtype=torch.bool) if case.batch.mask is None else case.batch.mask
    rows, answers = case.student.features["narrow"][counts].tolist(), case.teacher.features["wide"][counts].tolist()
    own, other = case.student.features["fc.weight"].tolist(), case.teacher.features["head.weight"].tolist()
    total, count = 0.0, 0
    for row, answer in zip(rows, answers, strict=True):
        for k in range(CLASSES):
            mine = shown_by(row, own[k], term.method.unit_length)
            for s, t in zip(mine, shown_by(answer, other[k], term.method.unit_length), strict=True):
                total += (s - t) ** 2
                count += 1
    return total / count if count else 0.0


def with_weights(case: Case, own: torch.Tensor, other: torch.Tensor) -> Case:
    student = replace(case.student, features={**case.student.features, "fc.weight": own})
    teacher = replace(case.teacher, features={**case.teacher.features, "head.weight": other})
    return replace(case, student=student, teacher=teacher, parameters=frozenset({"fc.weight", "head.weight"}))


class TestClassAttention(MethodSuite):
    method = ClassAttention(**LAYERS)
    positions = ((),)
    sabotages: ClassVar = {
        "lengths kept": lambda _, case: TestClassAttentionWithLengths().loss(case),
        "another classifier": lambda honest, case: honest(
            with_weights(case, case.student.features["fc.weight"].flip(0), case.teacher.features["head.weight"])
        ),
        "sum over the classes": lambda honest, case: honest(case) * CLASSES,
        "mask forgotten": lambda honest, case: honest(case.masked(torch.ones(case.positions, dtype=torch.bool))),
    }
    bf16_tolerance = 2e-2

    def case(self, seed, count, positions):
        case = features_case(seed, count, positions, student=STUDENT, teacher=TEACHER)
        generator = torch.Generator().manual_seed(7)
        own, other = (torch.randn(CLASSES, shape[0], generator=generator).double() for shape in (STUDENT, TEACHER))
        return with_weights(case, own, other)

    def reference(self, term, case):
        return difference(term, case)

    def known_values(self):
        """A student that sees what the teacher sees, three times as strongly; and one that sees the opposite."""
        case = self.case(1, 4, ())
        same = {"narrow": case.teacher.features["wide"], "fc.weight": 3.0 * case.teacher.features["head.weight"]}
        opposed = {**same, "fc.weight": -same["fc.weight"]}
        return [
            (replace(case, student=replace(case.student, features=features)), value)
            for features, value in ((same, 0.0), (opposed, 4.0 / GRID**2))
        ]


class TestClassAttentionWithLengths(TestClassAttention):
    method = ClassAttention(**LAYERS, unit_length=False)
    sabotages: ClassVar = {"unit length": lambda _, case: TestClassAttention().loss(case)}

    def known_values(self):
        case = self.case(1, 4, ())
        same = {"narrow": case.teacher.features["wide"], "fc.weight": case.teacher.features["head.weight"]}
        return [(replace(case, student=replace(case.student, features=same)), 0.0)]


class Small(nn.Module):
    """A map of 4×4 pixels, its mean, and a classifier that is a convolution of single pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, kernel_size=3, stride=2, padding=1)
        self.classify = nn.Conv2d(channels, 5, kernel_size=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classify(self.conv(images).relu().mean((2, 3), keepdim=True)).flatten(1)


def deep_head() -> nn.Module:
    mean = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU(), *mean, nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 5))


def test_auto_finds_the_classifiers_and_trains_the_students_alone() -> None:
    student, teacher = Small(4), Small(6)
    batch = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
    distiller = Distiller(student, teacher, ClassAttention(), example=batch)
    (method,) = distiller.objective.objective.terms
    assert (method.student_classifier, method.teacher_classifier) == ("classify.weight", "classify.weight")
    distiller(batch).loss.backward()
    assert student.classify.weight.grad.abs().sum() > 0
    assert student.classify.bias.grad is None or student.classify.bias.grad.abs().sum() == 0
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_named_layers_may_leave_the_classifiers_to_auto() -> None:
    pairs = LayerPairs(stages=(("a", "x"),), classifier=(("fc", "head.2"),))
    named = ClassAttention(student_layer="b", teacher_layer="y", teacher_classifier="mine.weight")
    assert named.wants_pairs
    found = named.paired(pairs)
    assert found.student_taps == ("b", "fc.weight")
    assert found.teacher_taps == ("y", "mine.weight")
    assert ClassAttention().paired(pairs).teacher_taps == ("x", "head.2.weight")


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (
            Small(4),
            timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, num_classes=5),
            "found none in one",
        ),
        (torchvision.models.squeezenet1_1(num_classes=5), Small(4), "found none in one"),
        (Small(4), deep_head(), r"teacher classifier '6.weight' has the shape \(5, 9\).* 6 channels"),
        (torchvision.models.resnet18(num_classes=5), Small(4), "student layer 'avgpool' gives one pixel"),
    ],
    ids=["two heads", "classifies before the mean", "several linear layers", "one pixel"],
)
def test_a_network_without_maps_of_its_classes_is_refused(student, teacher, message) -> None:
    example = torch.rand(2, 3, 32, 32), torch.tensor([0, 1])
    with pytest.raises(InputError, match=message):
        Distiller(student, teacher, ClassAttention(), example=example)


def test_several_layers_are_refused() -> None:
    case = TestClassAttention().case(1, 2, ())
    twice = ClassAttention(**{**LAYERS, "student_layer": ("narrow",) * 2, "teacher_layer": ("wide",) * 2})
    with pytest.raises(InputError, match=r"expected one layer of each network.*got 2"):
        twice.build(case.shapes)
