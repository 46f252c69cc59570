"""NaN and infinity are named by batch and sample."""

from typing import Literal

import pytest
import torch

from doctor.setting import found, mlp
from understudy import Batch, CrossEntropy, Method
from understudy.doctor import diagnose


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_pixels(digits, distiller, bad):
    inputs, targets = (each.clone() for each in digits.train)
    inputs[130, 0, 3, 3] = inputs[140, 0, 0, 0] = bad
    ids = torch.arange(len(inputs)) + 1000
    loader = [Batch(x, y, ids=i) for x, y, i in zip(inputs.split(128), targets.split(128), ids.split(128), strict=True)]
    findings = diagnose(distiller, loader)
    assert [each.check for each in findings] == ["finite_inputs"]
    assert "2 of 128 samples: batch 1, samples 1130, 1140" in findings[0].seen


def test_rows_are_counted_where_there_are_no_ids(digits, distiller):
    inputs, targets = (each.clone() for each in digits.val)
    inputs[7] = float("nan")
    finding = found(diagnose(distiller, digits.loader(), val=[(inputs, targets)]), "finite_inputs")
    assert "batch 0, rows 7" in finding.seen
    assert "validation" in finding.message


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_broken_network(digits, distiller, teacher, side):
    broken = distiller.student if side == "student" else teacher
    with torch.no_grad():
        broken[-1].bias[2] = float("inf")
    finding = found(diagnose(distiller, digits.loader()), "finite_logits")
    assert finding.severity == "error"
    assert f"the {side} answers NaN" in finding.message
    assert "128 of 128: batch 0, samples 0, 1, 2, 3, 4 and 123 more" in finding.seen


class LogOfZero(Method):
    """Blows up on purpose."""

    paper = "none"
    needs_teacher = False
    kind: Literal["log_of_zero"] = "log_of_zero"

    def loss(self, student, teacher, batch):
        return (student.logits.sum() * 0.0).log()


def test_a_term_that_is_not_finite(digits, distill):
    finding = found(diagnose(distill(mlp(16), None, CrossEntropy() + LogOfZero()), digits.loader()), "finite_loss")
    assert finding.severity == "error"
    assert "in 'log_of_zero';" in finding.message
    assert "batch 0, samples 0, 1" in finding.seen


class RootOfZero(Method):
    """Finite, with a gradient that is not."""

    paper = "none"
    needs_teacher = False
    kind: Literal["root_of_zero"] = "root_of_zero"

    def loss(self, student, teacher, batch):
        return (student.logits.sum() * 0.0).sqrt()


def test_a_gradient_that_is_not_finite(digits, distill):
    finding = found(diagnose(distill(mlp(16), None, CrossEntropy() + RootOfZero()), digits.loader()), "finite_loss")
    assert "in 'root_of_zero';" in finding.message


class PlusInfinity(Method):
    """Not finite, with a gradient that is."""

    paper = "none"
    needs_teacher = False
    kind: Literal["plus_infinity"] = "plus_infinity"

    def loss(self, student, teacher, batch):
        return student.logits.mean() + float("inf")


def test_a_value_that_is_not_finite_with_a_gradient_that_is(digits, distill):
    finding = found(diagnose(distill(mlp(16), None, CrossEntropy() + PlusInfinity()), digits.loader()), "finite_loss")
    assert "in 'plus_infinity';" in finding.message
