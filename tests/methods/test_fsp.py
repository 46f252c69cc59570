from dataclasses import replace
from typing import ClassVar

import pytest
import torch

from conformance.case import Case, logits_case
from conformance.method_suite import MethodSuite
from understudy import Batch, Fsp, InputError, Knowledge
from understudy.functional.feature_maps import fsp_loss
from understudy.knowledge import Shapes

STUDENT = {"s1": (2, 4, 4), "s2": (3, 2, 2), "s3": (1, 2, 2)}
TEACHER = {"t1": (2, 2, 4), "t2": (3, 2, 2), "t3": (1, 1, 2)}


def mean_of_blocks(channel: list[list[float]], height: int, width: int) -> list[float]:
    """A channel averaged down to whole blocks, row by row."""
    down, across = len(channel) // height, len(channel[0]) // width
    return [
        sum(channel[y * down + dy][x * across + dx] for dy in range(down) for dx in range(across)) / (down * across)
        for y in range(height)
        for x in range(width)
    ]


def flow(earlier: list, later: list) -> list[list[float]]:
    """Yim et al. 2017, eq. 1."""
    height, width = min(len(earlier[0]), len(later[0])), min(len(earlier[0][0]), len(later[0][0]))
    ones = [mean_of_blocks(channel, height, width) for channel in earlier]
    others = [mean_of_blocks(channel, height, width) for channel in later]
    return [
        [sum(a * b for a, b in zip(one, other, strict=True)) / (height * width) for other in others] for one in ones
    ]


def flow_distance(case: Case) -> float:
    """Eq. 2, as a mean over the entries, summed over the layers that follow each other."""
    counts = [True] * len(case.batch) if case.batch.mask is None else case.batch.mask.tolist()
    student, teacher = (
        [[row for row, counted in zip(feature.tolist(), counts, strict=True) if counted] for feature in features]
        for features in (case.student.features.values(), case.teacher.features.values())
    )
    total = 0.0
    for layer in range(2):
        for sample in range(sum(counts)):
            one = flow(student[layer][sample], student[layer + 1][sample])
            other = flow(teacher[layer][sample], teacher[layer + 1][sample])
            squares = [(one[c][d] - other[c][d]) ** 2 for c in range(len(one)) for d in range(len(one[0]))]
            total += sum(squares) / len(squares) / sum(counts)
    return total


def without_the_last_flow(_honest, case: Case) -> torch.Tensor:
    shorter = Fsp(student_layer=("s1", "s2"), teacher_layer=("t1", "t2"))
    return shorter.build(case.shapes)(case.student, case.teacher, case.batch)


class TestFsp(MethodSuite):
    method = Fsp(student_layer=tuple(STUDENT), teacher_layer=tuple(TEACHER))
    positions = ((),)
    sabotages: ClassVar = {
        "half": lambda honest, case: honest(case) / 2,
        "without the last flow": without_the_last_flow,
    }

    def case(self, seed, count, positions):
        case = logits_case(seed, count, positions)
        generator = torch.Generator().manual_seed(200 + seed)
        student, teacher = (
            {path: torch.randn(count, *shape, generator=generator).double() for path, shape in shapes.items()}
            for shapes in (STUDENT, TEACHER)
        )
        return replace(
            case,
            student=replace(case.student, features=student),
            teacher=replace(case.teacher, features=teacher),
        )

    def reference(self, term, case):
        return flow_distance(case)

    def known_values(self):
        """The teacher's features of a pixel each, everywhere; and a last layer that differs by 2 where all is 1."""
        case = self.case(1, 4, ())
        ones = case.each(lambda tensor: torch.ones_like(tensor))
        last = {**ones.teacher.features, "t3": torch.full_like(ones.teacher.features["t3"], 3.0)}
        return [(ones, 0.0), (replace(ones, teacher=replace(ones.teacher, features=last)), 4.0)]


def shapes_of(student: dict[str, tuple[int, ...]], teacher: dict[str, tuple[int, ...]]) -> Shapes:
    return Shapes(
        student={path: torch.Size((2, *shape)) for path, shape in student.items()},
        teacher={path: torch.Size((2, *shape)) for path, shape in teacher.items()},
        student_logits=torch.Size([2, 5]),
        teacher_logits=torch.Size([2, 5]),
    )


def test_every_layer_that_is_no_map_is_named() -> None:
    method = Fsp(student_layer=("a", "b", "c"), teacher_layer=("d", "e", "f"))
    shapes = shapes_of({"a": (2, 4, 4), "b": (15, 3), "c": (15, 5)}, {"d": (2, 8, 8), "e": (6, 8, 8), "f": (5, 8, 8)})
    with pytest.raises(InputError, match=r"(?s)fsp \('b' to 'e'\).*\(N, 15, 3\).*fsp \('c' to 'f'\).*\(N, 15, 5\)"):
        method.build(shapes)


def test_other_numbers_of_channels_are_brought_to_the_teachers() -> None:
    method = Fsp(student_layer=("a", "b"), teacher_layer=("d", "e"))
    features = {"a": torch.randn(2, 2, 4, 4), "b": torch.randn(2, 3, 4, 4)}
    answers = {"d": torch.randn(2, 2, 4, 4), "e": torch.randn(2, 6, 4, 4)}
    student, teacher = Knowledge(torch.zeros(2, 5), features), Knowledge(torch.zeros(2, 5), answers)
    term = method.build(Shapes.of(student, teacher))
    assert [tuple(parameter.shape) for parameter in term.parameters()] == [(6, 3, 1, 1)]
    adapted = term.adapters[1](features["b"])
    expected = fsp_loss((features["a"], adapted), (answers["d"], answers["e"]))
    torch.testing.assert_close(term(student, teacher, Batch(torch.zeros(2, 1))), expected)


def test_one_layer_has_no_flow() -> None:
    with pytest.raises(InputError, match=r"fsp: expected two or more layers .*, got 1; name more in student_layer"):
        Fsp(student_layer="a", teacher_layer="b").build(shapes_of({"a": (2, 4, 4)}, {"b": (2, 4, 4)}))


def test_where_pixels_have_logits_every_sample_counts() -> None:
    student, teacher = ({f"{side}{layer}": torch.randn(2, 3, 4, 4) for layer in (1, 2)} for side in "st")
    mask = torch.rand(2, 4, 4) < 0.5
    shown = Knowledge(logits=torch.randn(2, 4, 4, 5), features=student, mask=mask)
    answer = Knowledge(logits=torch.randn(2, 4, 4, 5), features=teacher, mask=mask)
    term = Fsp(student_layer=tuple(student), teacher_layer=tuple(teacher)).build(Shapes.of(shown, answer))
    loss = term(shown, answer, Batch(inputs=torch.zeros(2, 1), valid_total=torch.tensor(7.0)))
    flows = [torch.einsum("nchw,ndhw->ncd", *features.values()) / 16 for features in (student, teacher)]
    torch.testing.assert_close(loss, (flows[0] - flows[1]).square().mean())
