import math
from typing import ClassVar

from conformance.case import Case, counted_rows, features_case
from conformance.method_suite import BatchCoupledSuite
from conformance.relations import Rows, cosine, everything_counts, points_case, rows_that_count
from understudy import ProbabilisticTransfer


def probabilities(rows: Rows, sample: int) -> dict[int, float]:
    """Passalis and Tefas 2018: the cosine kernel over its sum, over all samples but the one that is looked at."""
    kernel = {j: (cosine(rows[sample], rows[j]) + 1) / 2 for j in range(len(rows)) if j != sample}
    return {j: value / sum(kernel.values()) for j, value in kernel.items()}


def divergence(case: Case) -> float:
    """Their Kullback-Leibler divergence, as a mean over samples."""
    student, teacher = counted_rows(case)
    if len(student) < 3:
        return 0.0
    total = 0.0
    for sample in range(len(student)):
        p, q = probabilities(teacher, sample), probabilities(student, sample)
        total += sum(p[j] * math.log(p[j] / q[j]) for j in p)
    return total / len(student)


def the_other_way_round(honest, case: Case):
    student, teacher = case.student.features["narrow"], case.teacher.features["wide"]
    case = points_case(teacher.flatten(0, -2).tolist(), student.flatten(0, -2).tolist())
    return honest(case)


class TestProbabilisticTransfer(BatchCoupledSuite):
    method = ProbabilisticTransfer(student_layer="narrow", teacher_layer="wide")
    fewest = 3
    sabotages: ClassVar = {
        "KL(student || teacher)": the_other_way_round,
        "mean over all entries": lambda honest, case: honest(case) / rows_that_count(case),
        "mask forgotten": everything_counts,
    }

    def case(self, seed, count, positions):
        return features_case(seed, count, positions, student=(3,), teacher=(5,))

    def reference(self, term, case):
        return divergence(case)

    def known_values(self):
        orthogonal = [[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]]
        two_equal = [[1.0, 0.0], [5.0, 0.0], [0.0, 1.0]]
        value = 2 / 3 * (2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3))  # (2/3, 1/3) against 1/2, for two of three
        return [
            (points_case(orthogonal, two_equal), value),
            (points_case(orthogonal, [[0.0, -3.0, 0.0], [6.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), 0.0),
        ]
