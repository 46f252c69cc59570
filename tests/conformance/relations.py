"""For tests of methods that relate samples: cases from given points, and geometry on Python floats."""

import math

import torch

from conformance.case import Case, features_case

Rows = list[list[float]]


def points_case(student: Rows, teacher: Rows) -> Case:
    """One sample per point."""
    case = features_case(1, len(student), (), student=(1,), teacher=(1,))
    case.student.features["narrow"] = torch.tensor(student, dtype=torch.float64)
    case.teacher.features["wide"] = torch.tensor(teacher, dtype=torch.float64)
    return case


def everything_counts(honest, case: Case) -> torch.Tensor:
    """The sabotage of a loss that forgets the mask."""
    return honest(case.masked(torch.ones(case.positions, dtype=torch.bool)))


def rows_that_count(case: Case) -> int:
    mask = case.batch.mask
    return int(mask.sum()) if mask is not None else case.positions.numel()


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosine(a: list[float], b: list[float]) -> float:
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def huber(difference: float) -> float:
    """Park et al. 2019, section 3.2.1."""
    return difference**2 / 2 if abs(difference) <= 1 else abs(difference) - 0.5
