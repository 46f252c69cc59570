import math
from typing import ClassVar

import torch

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import BatchCoupledSuite
from conformance.relations import Rows, dot, everything_counts, points_case, rows_that_count
from understudy import SimilarityPreserving


def similarities(rows: Rows) -> Rows:
    """Tung and Mori 2019: inner products of all samples, each row divided by its length."""
    lines = [[dot(a, b) for b in rows] for a in rows]
    return [[value / math.sqrt(dot(line, line)) for value in line] for line in lines]


def similarity_preserving(case: Case) -> float:
    """Their squared Frobenius distance over b², for one pair of layers."""
    student, teacher = counted_rows(case)
    if len(student) < 2:
        return 0.0
    of_student, of_teacher = similarities(student), similarities(teacher)
    size = len(student)
    return sum((of_teacher[i][j] - of_student[i][j]) ** 2 for i in range(size) for j in range(size)) / size**2


class TestSimilarityPreserving(BatchCoupledSuite):
    method = SimilarityPreserving(student_layer="narrow", teacher_layer="wide")
    sabotages: ClassVar = {
        "divided by b": lambda honest, case: honest(case) * rows_that_count(case),
        "off the diagonal": lambda honest, case: honest(case) / (1 - 1 / rows_that_count(case)),
        "mask forgotten": everything_counts,
    }

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=(3,), teacher=(5,))

    def reference(self, term, case):
        return similarity_preserving(case)

    def known_values(self):
        orthogonal, equal = [[1.0, 0.0], [0.0, 2.0]], [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
        return [
            (points_case(orthogonal, equal), 1 - math.sqrt(0.5)),  # (1, 0) against (1, 1) / sqrt(2), twice
            (points_case(orthogonal, [[0.0, -3.0, 0.0], [6.0, 0.0, 0.0]]), 0.0),
        ]


class TestOnMaps(TestSimilarityPreserving):
    """Whole maps are compared, not their means."""

    positions = ((),)
    test_compiled_equals_eager = None

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=(3, 2, 2), teacher=(5, 3, 3))

    def reference(self, term, case):
        student, teacher = case.student.features["narrow"], case.teacher.features["wide"]
        return similarity_preserving(flattened(case, student.flatten(1), teacher.flatten(1)))

    def test_is_not_that_of_the_means(self) -> None:
        case = self.case(1, 6, ())
        student, teacher = case.student.features["narrow"], case.teacher.features["wide"]
        means = flattened(case, student.mean((2, 3)), teacher.mean((2, 3)))
        assert not torch.isclose(self.loss(case), self.loss(means))


def flattened(case: Case, student: torch.Tensor, teacher: torch.Tensor) -> Case:
    changed = points_case(student.tolist(), teacher.tolist())
    return changed if case.batch.mask is None else changed.masked(case.batch.mask)
