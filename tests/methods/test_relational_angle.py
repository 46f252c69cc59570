import itertools
from typing import ClassVar

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import BatchCoupledSuite
from conformance.relations import Rows, cosine, everything_counts, huber, points_case, rows_that_count
from understudy import RelationalAngle


def potential(rows: Rows, i: int, j: int, k: int) -> float:
    """Park et al. 2019, section 3.2.2: the cosine of the angle at j."""
    to_i = [a - b for a, b in zip(rows[i], rows[j], strict=True)]
    to_k = [a - b for a, b in zip(rows[k], rows[j], strict=True)]
    return cosine(to_i, to_k)


def angle_wise(case: Case) -> float:
    """The paper's sum of Huber losses, as a mean over the triples."""
    student, teacher = counted_rows(case)
    total, count = 0.0, 0
    for triple in itertools.permutations(range(len(student)), 3):
        count += 1
        total += huber(potential(student, *triple) - potential(teacher, *triple))
    return total / count if count else 0.0


def over_all_entries(honest, case: Case):
    count = rows_that_count(case)
    return honest(case) * (count - 1) * (count - 2) / count**2


class TestRelationalAngle(BatchCoupledSuite):
    method = RelationalAngle(student_layer="narrow", teacher_layer="wide")
    fewest = 3
    sabotages: ClassVar = {
        "mean over degenerate triples too": over_all_entries,
        "mask forgotten": everything_counts,
    }

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=(3,), teacher=(5,))

    def reference(self, term, case):
        return angle_wise(case)

    def known_values(self):
        line, triangle = [[0.0], [1.0], [3.0]], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
        return [
            (points_case(line, triangle), 1.25 / 3),  # 1, -1, 1 against 1/2: 1/8, 1, 1/8
            (points_case(line, [[2.0, 2.0], [3.0, 3.0], [5.0, 5.0]]), 0.0),
        ]
