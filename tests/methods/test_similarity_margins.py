import itertools
from typing import ClassVar

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import BatchCoupledSuite
from conformance.relations import cosine, everything_counts, points_case
from understudy import SimilarityMargins


def squared_differences(case: Case) -> float:
    """Hofstätter et al. 2020, margin-MSE, of every triple (query, passage, other passage) of distinct samples."""
    student, teacher = counted_rows(case)
    total, count = 0.0, 0
    for i, j, k in itertools.permutations(range(len(student)), 3):
        count += 1
        margins = [cosine(side[i], side[j]) - cosine(side[i], side[k]) for side in (student, teacher)]
        total += (margins[0] - margins[1]) ** 2
    return total / count if count else 0.0


class TestSimilarityMargins(BatchCoupledSuite):
    method = SimilarityMargins(student_layer="narrow", teacher_layer="wide")
    fewest = 3
    sabotages: ClassVar = {
        "half, as the variance of the differences": lambda honest, case: honest(case) / 2,
        "root": lambda honest, case: honest(case).sqrt(),
        "mask forgotten": everything_counts,
    }

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=(3,), teacher=(5,))

    def reference(self, term, case):
        return squared_differences(case)

    def known_values(self):
        apart, equal = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[1.0, 1.0]] * 3
        return [
            (points_case(apart, equal), 2 / 3),  # two of three queries have a margin of 1, both ways round
            (points_case([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], equal), 0.0),  # all cosines, by 1
            (points_case(apart[:2], equal[:2]), 0.0),
        ]
