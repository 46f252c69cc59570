import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from pydantic import ValidationError

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import MethodSuite
from understudy import AttentionTransfer

STUDENT, TEACHER = (2, 2, 6), (3, 4, 3)


def block_means(plane: list[list[float]], height: int, width: int) -> list[float]:
    """A plane averaged down to whole blocks, row by row."""
    down, across = len(plane) // height, len(plane[0]) // width
    means = []
    for y in range(height):
        for x in range(width):
            block = [plane[y * down + dy][x * across + dx] for dy in range(down) for dx in range(across)]
            means.append(sum(block) / len(block))
    return means


def attention(feature: list, power: float, height: int, width: int) -> list[float]:
    """Zagoruyko and Komodakis 2017: the sum over channels of absolute values to the power, at length 1."""
    rows, columns = range(len(feature[0])), range(len(feature[0][0]))
    plane = [[sum(abs(channel[y][x]) ** power for channel in feature) for x in columns] for y in rows]
    pixels = block_means(plane, height, width)
    length = math.sqrt(sum(value**2 for value in pixels))
    return [value / length for value in pixels]


def attention_distance(case: Case, power: float) -> float:
    """Eq. 2 as its authors' code has it: the mean of the squared differences."""
    height, width = min(STUDENT[1], TEACHER[1]), min(STUDENT[2], TEACHER[2])
    total, count = 0.0, 0
    for narrow, wide in zip(*counted_rows(case), strict=True):
        student, teacher = attention(narrow, power, height, width), attention(wide, power, height, width)
        for one, other in zip(student, teacher, strict=True):
            total += (one - other) ** 2
            count += 1
    return total / count if count else 0.0


def with_another_power(_honest, case: Case) -> torch.Tensor:
    other = AttentionTransfer(student_layer="narrow", teacher_layer="wide", power=1.0)
    return other.build(case.shapes)(case.student, case.teacher, case.batch)


class TestAttentionTransfer(MethodSuite):
    method = AttentionTransfer(student_layer="narrow", teacher_layer="wide")
    positions = ((),)
    sabotages: ClassVar = {
        "sum over the pixels": lambda honest, case: honest(case) * 6,
        "norm instead of its square": lambda honest, case: honest(case).sqrt(),
        "another power": with_another_power,
    }

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=STUDENT, teacher=TEACHER)

    def reference(self, term, case):
        return attention_distance(case, self.method.power)

    def known_values(self):
        case = self.case(1, 4, ())
        left, right = torch.zeros(2, 4, 3, 1, 2).double()
        left[..., 0], right[..., 1] = 3.0, -5.0
        return [(shown(case, left, 7.0 * left), 0.0), (shown(case, left, right), 1.0)]


def shown(case: Case, student: torch.Tensor, teacher: torch.Tensor) -> Case:
    return replace(
        case,
        student=replace(case.student, features={"narrow": student}),
        teacher=replace(case.teacher, features={"wide": teacher}),
    )


class TestAttentionTransferOfTheFourthPower(TestAttentionTransfer):
    method = AttentionTransfer(student_layer="narrow", teacher_layer="wide", power=4.0)
    test_compiled_equals_eager = None


@pytest.mark.parametrize("power", [0.5, -2.0, float("inf")])
def test_the_power_is_at_least_one(power: float) -> None:
    with pytest.raises(ValidationError, match="power"):
        AttentionTransfer(power=power)
