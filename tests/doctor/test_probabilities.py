"""Probabilities in the place of logits are found on both sides."""

import torch
from torch import nn

from doctor.setting import OBJECTIVE, found, mlp, serious
from understudy import CrossEntropy, Distiller, MultiLabelClassification, SoftTargets
from understudy.doctor import diagnose
from understudy.doctor.probabilities import _are_probabilities


def test_a_teacher_that_ends_in_softmax(digits, distill, teacher):
    findings = diagnose(distill(mlp(16), nn.Sequential(teacher, nn.Softmax(dim=-1))), digits.loader())
    finding = found(findings, "probabilities")
    assert finding.severity == "error"
    assert "the teacher gives probabilities" in finding.message
    assert "(its layer '1' is a Softmax)" in finding.seen


def test_a_student_that_ends_in_softmax(digits, distill, teacher):
    student = nn.Sequential(mlp(16), nn.Softmax(dim=-1))
    finding = found(diagnose(distill(student, teacher), digits.loader()), "probabilities")
    assert finding.severity == "error"
    assert "the student gives probabilities" in finding.message


def test_a_teacher_of_labels_that_ends_in_a_sigmoid():
    batches = [(torch.randn(40, 5), (torch.rand(40, 3) < 0.5).long())]
    task, teacher = MultiLabelClassification(labels=3), nn.Linear(5, 3)
    healthy = Distiller(nn.Linear(5, 3), teacher, SoftTargets(), example=batches[0], task=task)
    assert not [each for each in diagnose(healthy, batches) if each.check == "probabilities"]
    finding = diagnose(
        Distiller(nn.Linear(5, 3), nn.Sequential(teacher, nn.Sigmoid()), SoftTargets(), example=batches[0], task=task),
        batches,
        classes=("a", "b", "c"),
    )[0]
    assert (finding.check, finding.severity) == ("probabilities", "error")
    assert "the scores before the sigmoid" in finding.message
    assert "(its layer '1' is a Sigmoid)" in finding.seen


def test_log_probabilities_are_a_note(digits, distill, teacher):
    findings = diagnose(distill(mlp(16), nn.Sequential(teacher, nn.LogSoftmax(dim=-1))), digits.loader())
    assert serious(findings) == []
    assert found(findings, "probabilities").severity == "note"


def test_small_logits_are_not_probabilities(digits, distill):
    student = nn.Sequential(mlp(16), nn.Sigmoid())  # within [0, 1], but the rows do not sum to one
    assert diagnose(distill(student, None, CrossEntropy()), digits.loader()) == []


def test_a_softmax_inside_is_no_fault(digits, distill, teacher):
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Softmax(dim=-1), nn.Linear(32, 10))
    checks = {each.check for each in diagnose(distill(student, teacher, OBJECTIVE), digits.loader())}
    assert "probabilities" not in checks


def test_rows_must_sum_to_one_each_not_on_average():
    assert _are_probabilities(torch.tensor([[0.25, 0.75], [1.0, 0.0]]))
    assert not _are_probabilities(torch.tensor([[0.2, 0.4], [0.9, 0.5]]))
    assert not _are_probabilities(torch.tensor([[-0.2, 1.2], [1.0, 0.0]]))
