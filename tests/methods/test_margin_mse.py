from typing import ClassVar

import torch

from conformance.case import CLASSES, Case, logits_case
from conformance.logit_rows import Row, counted, mean
from conformance.method_suite import MethodSuite
from understudy import LogitMse, MarginMse


def margins(row: Row) -> float:
    """Hofstätter et al. 2020: squared difference of the margins, of every candidate against every other."""
    total, count = 0.0, 0
    for j in range(CLASSES):
        for k in range(CLASSES):
            if j != k:
                total += ((row.student[j] - row.student[k]) - (row.teacher[j] - row.teacher[k])) ** 2
                count += 1
    return total / count


def against_the_first_only(_honest, case: Case) -> torch.Tensor:
    student, teacher = (k.logits[..., :1] - k.logits[..., 1:] for k in (case.student, case.teacher))
    squared = (student - teacher).square().mean(-1)
    return squared.mean() if case.batch.mask is None else squared[case.batch.mask].mean()


class TestMarginMse(MethodSuite):
    method = MarginMse()
    symmetric = True
    sabotages: ClassVar = {
        "sum over the pairs": lambda honest, case: honest(case) * CLASSES * (CLASSES - 1),
        "a candidate is a pair with itself": lambda honest, case: honest(case) * (CLASSES - 1) / CLASSES,
        "not centred": lambda _, case: (
            2 * CLASSES / (CLASSES - 1) * LogitMse().loss(case.student, case.teacher, case.batch)
        ),
        "against the first only": against_the_first_only,
    }

    def case(self, seed, count, positions):
        return logits_case(seed, count, positions)

    def reference(self, term, case):
        return mean(margins, counted(case))

    def known_values(self) -> list[tuple[Case, float]]:
        case = logits_case(1, 4)
        one_moved = case.teacher.logits.clone()
        one_moved[:, 1] += 4.0  # 3 of 6 pairs change, by 4
        return [
            (case.with_tensors([case.teacher.logits]), 0.0),
            (case.with_tensors([case.teacher.logits + 5.0]), 0.0),
            (case.with_tensors([one_moved]), 8.0),
        ]
