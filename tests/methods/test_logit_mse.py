from typing import ClassVar

from conformance.case import CLASSES, Case, logits_case
from conformance.logit_rows import Row, counted, mean
from conformance.method_suite import MethodSuite
from understudy import LogitMse


def squared_distance(row: Row) -> float:
    """Ba and Caruana 2014, eq. 1, as a mean over classes instead of half their sum."""
    total = 0.0
    for k in range(CLASSES):
        total += (row.student[k] - row.teacher[k]) ** 2
    return total / CLASSES


def centred(row: Row) -> float:
    """The same of logits with mean 0, as Hinton et al. 2015, eq. 4, assume."""
    student = [value - sum(row.student) / CLASSES for value in row.student]
    teacher = [value - sum(row.teacher) / CLASSES for value in row.teacher]
    return squared_distance(Row(student, teacher, row.target))


def with_centred(value: bool):
    return lambda _, case: LogitMse(centred=value).loss(case.student, case.teacher, case.batch)


class TestLogitMse(MethodSuite):
    method = LogitMse()
    symmetric = True
    sabotages: ClassVar = {
        "sum over classes": lambda honest, case: honest(case) * CLASSES,
        "half": lambda honest, case: honest(case) / 2.0,
        "centred": with_centred(True),
    }

    def case(self, seed, count, positions):
        return logits_case(seed, count, positions)

    def reference(self, term, case):
        return mean(squared_distance, counted(case))

    def known_values(self) -> list[tuple[Case, float]]:
        case = logits_case(1, 4)
        return [
            (case.with_tensors([case.teacher.logits]), 0.0),
            (case.with_tensors([case.teacher.logits + 3.0]), 9.0),
        ]


class TestLogitMseCentred(TestLogitMse):
    method = LogitMse(centred=True)
    sabotages: ClassVar = {"not centred": with_centred(False)}
    test_compiled_equals_eager = None

    def reference(self, term, case):
        return mean(centred, counted(case))

    def known_values(self) -> list[tuple[Case, float]]:
        case = logits_case(1, 4)
        one_moved = case.teacher.logits.clone()
        one_moved[:, 1] += 4.0  # from its own mean by 3, and the three others by 1
        return [
            (case.with_tensors([case.teacher.logits + 3.0]), 0.0),
            (case.with_tensors([one_moved]), (3.0**2 + 3 * 1.0**2) / CLASSES),
        ]
