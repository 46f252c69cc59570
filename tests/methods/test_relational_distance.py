import itertools
import math
from typing import ClassVar

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import BatchCoupledSuite
from conformance.relations import Rows, everything_counts, huber, points_case, rows_that_count
from understudy import RelationalDistance


def potentials(rows: Rows) -> dict[tuple[int, int], float]:
    """Park et al. 2019, section 3.2.1: distances of distinct samples over their mean."""
    distances = {(i, j): math.dist(rows[i], rows[j]) for i, j in itertools.permutations(range(len(rows)), 2)}
    mean = sum(distances.values()) / len(distances)
    return {pair: distance / mean for pair, distance in distances.items()}


def distance_wise(case: Case) -> float:
    """The paper's sum of Huber losses, as a mean over the pairs."""
    student, teacher = counted_rows(case)
    if len(student) < 3:
        return 0.0
    of_student, of_teacher = potentials(student), potentials(teacher)
    return sum(huber(of_student[pair] - of_teacher[pair]) for pair in of_student) / len(of_student)


class TestRelationalDistance(BatchCoupledSuite):
    method = RelationalDistance(student_layer="narrow", teacher_layer="wide")
    fewest = 3
    sabotages: ClassVar = {
        "mean over the diagonal too": lambda honest, case: honest(case) * (1 - 1 / rows_that_count(case)),
        "sum over pairs": lambda honest, case: honest(case) * rows_that_count(case),
        "mask forgotten": everything_counts,
    }

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=(3,), teacher=(5,))

    def reference(self, term, case):
        return distance_wise(case)

    def known_values(self):
        line, triangle = [[0.0], [1.0], [3.0]], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
        return [
            (points_case(line, triangle), 1 / 12),  # 1/2, 1, 3/2 against 1, 1, 1
            (points_case(line, [[-5.0, 2.0], [-5.0, 4.0], [-5.0, 8.0]]), 0.0),
        ]
