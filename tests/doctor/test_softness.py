"""Soft targets that are hard, and batches that nothing can be learnt from."""

import copy

import torch

from doctor.setting import found, mlp
from understudy import IGNORE_INDEX, CrossEntropy, SoftTargets
from understudy.doctor import diagnose
from understudy.doctor.softness import SOFT, mean_entropy


def too_sure(teacher: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        teacher[-1].weight *= 30.0
        teacher[-1].bias *= 30.0
    return teacher


def test_a_teacher_too_sure_of_itself(digits, distill, teacher):
    sure = too_sure(teacher)
    findings = diagnose(distill(mlp(16), sure, SoftTargets(temperature=1.0)), digits.loader())
    finding = found(findings, "temperature")
    assert finding.severity == "note"
    suggested = float(finding.remedy.split()[-1])
    with torch.no_grad():
        logits = copy.deepcopy(sure).eval()(digits.train[0])
    assert mean_entropy(logits, suggested) > SOFT / 2.0
    softer = distill(mlp(16), sure, SoftTargets(temperature=suggested))
    assert diagnose(softer, digits.loader()) == []


def test_entropy_is_in_nats():
    torch.testing.assert_close(mean_entropy(torch.zeros(3, 10), 2.0), 2.302585, rtol=1e-5, atol=0.0)


def test_labels_that_are_not_there(digits, distill):
    inputs, targets = digits.train
    few = torch.full_like(targets, IGNORE_INDEX)
    few[:50] = targets[:50]
    loader = list(zip(inputs.split(128), few.split(128), strict=True))
    finding = found(diagnose(distill(mlp(16), None, CrossEntropy()), loader), "labelled_rows")
    assert finding.severity == "note"
    assert "7 of 8 batches" in finding.seen


def test_no_labels_at_all(digits, distill):
    findings = diagnose(distill(mlp(16), None, CrossEntropy()), [batch.inputs for batch in digits.loader()])
    assert found(findings, "labelled_rows").severity == "warning"
