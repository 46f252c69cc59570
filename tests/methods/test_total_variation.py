import math
from typing import ClassVar

import torch

from conformance.case import CLASSES, Case, logits_case
from conformance.logit_rows import Row, counted, mean, softmax
from conformance.method_suite import MethodSuite
from understudy import TotalVariation


def distance(row: Row) -> float:
    """Wen et al. 2023: half the sum of |q(y) - p(y)|, here of each position."""
    p, q = softmax(row.teacher), softmax(row.student)
    total = 0.0
    for k in range(CLASSES):
        total += abs(q[k] - p[k])
    return total / 2.0


class TestTotalVariation(MethodSuite):
    method = TotalVariation()
    symmetric = True
    sabotages: ClassVar = {
        "not halved": lambda honest, case: 2.0 * honest(case),
        "mean over classes": lambda honest, case: 2.0 * honest(case) / CLASSES,
        "squared": lambda honest, case: honest(case) ** 2,
    }

    def case(self, seed, count, positions):
        return logits_case(seed, count, positions)

    def reference(self, term, case):
        return mean(distance, counted(case))

    def known_values(self):
        case = logits_case(1, 4)
        hot = 1e3 * torch.eye(CLASSES, dtype=torch.float64)
        half = torch.tensor([[math.log(3.0), 0.0, 0.0, 0.0]] * 4, dtype=torch.float64)
        uniform = case.with_tensors([torch.zeros(4, CLASSES, dtype=torch.float64)]).student
        return [
            (case.with_tensors([case.teacher.logits - 2.0]), 0.0),
            (Case(case.with_tensors([hot]).student, case.with_tensors([hot.flip(-1)]).student, case.batch), 1.0),
            (Case(case.with_tensors([half]).student, uniform, case.batch), 0.25),
        ]
