import itertools
from typing import ClassVar

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import BatchCoupledSuite
from conformance.relations import cosine, everything_counts, points_case, rows_that_count
from understudy import EmbeddingSimilarity


def squared_differences(case: Case) -> float:
    """Zhang et al. 2024, similarity loss: of the cosines of distinct samples."""
    student, teacher = counted_rows(case)
    total, count = 0.0, 0
    for i, j in itertools.permutations(range(len(student)), 2):
        count += 1
        total += (cosine(student[i], student[j]) - cosine(teacher[i], teacher[j])) ** 2
    return total / count if count else 0.0


class TestEmbeddingSimilarity(BatchCoupledSuite):
    method = EmbeddingSimilarity(student_layer="narrow", teacher_layer="wide")
    sabotages: ClassVar = {
        "mean over the diagonal too": lambda honest, case: honest(case) * (1 - 1 / rows_that_count(case)),
        "root": lambda honest, case: honest(case).sqrt(),
        "mask forgotten": everything_counts,
    }

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=(3,), teacher=(5,))

    def reference(self, term, case):
        return squared_differences(case)

    def known_values(self):
        orthogonal, equal = [[1.0, 0.0], [0.0, 2.0]], [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
        opposite = [[1.0], [-4.0]]
        return [
            (points_case(orthogonal, equal), 1.0),
            (points_case(opposite, equal), 4.0),
            (points_case(orthogonal, [[0.0, -3.0, 0.0], [6.0, 0.0, 0.0]]), 0.0),
        ]
