import math
from dataclasses import replace
from typing import ClassVar

import pytest
import timm
import torch
from pydantic import ValidationError

from conformance.case import Case, counted_rows, features_case
from conformance.maps import Map, averaged
from conformance.method_suite import BatchCoupledSuite
from conformance.relations import Rows, cosine, everything_counts, points_case
from understudy import CrossEntropy, Distiller, PatchManifold

STUDENT, TEACHER, SIZE = (2, 2, 3), (3, 3, 2), (2, 2)
PLACES = 4
WEIGHTS = {"within": 4.0, "across": 0.1, "anywhere": 0.2}


def patches(feature: Map) -> Rows:
    """A vector of channels for each pixel of the grid that both have, row by row."""
    pooled = averaged(feature, SIZE)
    return [[channel[y][x] for channel in pooled] for y in range(SIZE[0]) for x in range(SIZE[1])]


def distance(student: Rows, teacher: Rows) -> float:
    """The mean over pairs of patches of the squared difference of their cosines."""
    total = 0.0
    for i in range(len(student)):
        for j in range(len(student)):
            own = 1.0 if i == j else cosine(student[i], student[j])
            total += (own - (1.0 if i == j else cosine(teacher[i], teacher[j]))) ** 2
    return total / len(student) ** 2


def manifolds(case: Case, weights: dict[str, float], drawn: list[int] | None = None) -> float:
    """Hao et al. 2022: of each image, of each place, and of the patches that are drawn from all."""
    sides = [[patches(feature) for feature in side] for side in counted_rows(case)]
    count = len(sides[0])
    if count == 0:
        return 0.0
    within = sum(distance(sides[0][i], sides[1][i]) for i in range(count)) / count
    across = 0.0
    for place in range(PLACES):
        across += distance(*([image[place] for image in side] for side in sides)) / PLACES
    every = [[patch for image in side for patch in image] for side in sides]
    chosen = [[side[k] for k in (range(len(side)) if drawn is None else drawn)] for side in every]
    return weights["within"] * within + weights["across"] * across + weights["anywhere"] * distance(*chosen)


class TestPatchManifold(BatchCoupledSuite):
    method = PatchManifold(student_layer="narrow", teacher_layer="wide")
    positions = ((),)
    fewest = 1
    sabotages: ClassVar = {
        "mask forgotten": everything_counts,
        "sum over places": lambda honest, case: honest(case) * PLACES,
        "upside down": lambda honest, case: honest(
            replace(case, student=replace(case.student, features={"narrow": case.student.features["narrow"].flip(2)}))
        ),
    }

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=STUDENT, teacher=TEACHER)

    def reference(self, term, case):
        return manifolds(case, WEIGHTS)

    def known_values(self):
        """Two images of one patch: at a right angle to the student, at 60° to the teacher, who may be any width."""
        right = points_case([[1.0, 0.0], [0.0, 2.0]], [[2.0, 0.0, 0.0], [0.5, math.sqrt(0.75), 0.0]])
        same = points_case([[1.0, 0.0], [0.0, 2.0]], [[0.0, 0.0, -3.0], [0.0, 7.0, 0.0]])
        return [(right, (0.1 + 0.2) * 2 * 0.25 / 4), (same, 0.0)]


class TestWithinOnly(TestPatchManifold):
    method = PatchManifold(student_layer="narrow", teacher_layer="wide", across=0.0, anywhere=0.0)
    test_has_the_stated_values = None
    test_compiled_equals_eager = None
    test_two_processes_that_keep_to_themselves_would_be_noticed = None  # images are not compared

    def reference(self, term, case):
        return manifolds(case, {"within": 4.0, "across": 0.0, "anywhere": 0.0})


class TestDrawn(TestPatchManifold):
    """Five patches that are given instead of drawn."""

    method = PatchManifold(student_layer="narrow", teacher_layer="wide", drawn=5)
    test_has_the_stated_values = None
    test_compiled_equals_eager = None
    # Whatever other processes, or a batch in another order, would draw.
    test_the_order_of_the_batch_does_not_matter = None
    test_two_processes_equal_one = None
    test_two_processes_that_keep_to_themselves_would_be_noticed = None

    def term(self, case, *, seed=0):
        term = super().term(case, seed=seed)
        term.joined[0].relation.draw = lambda count, _device: torch.tensor(self.chosen(count))
        return term

    @staticmethod
    def chosen(count: int) -> list[int]:
        return [count - 1, 0, 2, count // 2, 1][:count]

    def reference(self, term, case):
        return manifolds(case, WEIGHTS, self.chosen(PLACES * len(counted_rows(case)[0])))


def test_as_many_patches_as_stated_are_drawn_anew_from_all() -> None:
    relation = PatchManifold(drawn=5).relation(torch.Size(STUDENT), torch.Size(TEACHER))
    device = torch.device("cpu")
    draws = [relation.draw(24, device) for _ in range(50)]
    assert all(len(set(drawn.tolist())) == 5 for drawn in draws)
    assert set(torch.cat(draws).tolist()) == set(range(24))
    assert relation.draw(5, device) is None


def test_more_patches_than_a_side_has_are_averaged() -> None:
    student, teacher = torch.randn(3, 4, 8, 6), torch.randn(3, 5, 8, 6)
    coarse, whole = (PatchManifold(side=side).relation(student.shape, teacher.shape) for side in (2, 8))
    averaged = [
        torch.stack([feature[..., y : y + 4, x : x + 3].mean((2, 3)) for y in (0, 4) for x in (0, 3)], -1)
        for feature in (student, teacher)
    ]
    expected = whole(*(feature.unflatten(-1, (2, 2)) for feature in averaged))
    torch.testing.assert_close(coarse(student, teacher), expected)
    assert (coarse(student, teacher) - whole(student, teacher)).abs() > 1e-3


def test_a_wide_map_keeps_its_height() -> None:
    torch.manual_seed(4)
    student, teacher = torch.randn(2, 3, 2, 6), torch.randn(2, 5, 2, 6)
    coarse, whole = (PatchManifold(side=side).relation(student.shape, teacher.shape) for side in (3, 8))
    halved = (feature.unflatten(3, (3, 2)).mean(4) for feature in (student, teacher))
    torch.testing.assert_close(coarse(student, teacher), whole(*halved))


def test_a_class_token_is_left_out() -> None:
    case = features_case(1, 3, (), student=(5, 3), teacher=(4, 6))
    without = replace(case, student=replace(case.student, features={"narrow": case.student.features["narrow"][:, 1:]}))
    losses = [
        TestPatchManifold.method.build(each.shapes)(each.student, each.teacher, each.batch) for each in (case, without)
    ]
    torch.testing.assert_close(*losses)


def test_takes_two_steps_between_transformers_of_other_widths_and_patches() -> None:
    options = {"img_size": 32, "num_classes": 3, "depth": 2}
    student = timm.create_model("vit_tiny_patch16_224", embed_dim=48, num_heads=3, **options)
    teacher = timm.create_model("vit_tiny_patch16_224", patch_size=8, embed_dim=96, num_heads=4, **options)
    batch = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    distiller = Distiller(student, teacher, CrossEntropy() + PatchManifold(drawn=7), example=batch)
    assert distiller.objective.objective.terms[1].student_taps == ("blocks.0", "blocks.1")
    optimizer = torch.optim.SGD(distiller.parameters(), 0.01)
    for _ in range(2):
        step = distiller(batch)
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
    assert step.loss.isfinite()
    assert student.blocks[1].attn.qkv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("wrong", [{"within": -1.0}, {"across": -0.1}, {"anywhere": -0.1}, {"drawn": 0}])
def test_weights_are_not_negative_and_something_is_drawn(wrong) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        PatchManifold(**wrong)
