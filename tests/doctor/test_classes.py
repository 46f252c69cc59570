"""Data, student and teacher must speak of the same classes."""

import pytest
import torch

from doctor.setting import found, mlp
from understudy import CrossEntropy
from understudy.doctor import diagnose

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def test_the_same_names_are_fine(digits, distiller):
    assert diagnose(distiller, digits.loader(), classes=NAMES, teacher_classes=NAMES) == []


def test_names_in_another_order(digits, distiller):
    findings = diagnose(distiller, digits.loader(), classes=NAMES, teacher_classes=sorted(NAMES))
    finding = found(findings, "class_order")
    assert finding.severity == "error"
    assert "class 0 is 'zero' in the data and 'eight' in the teacher" in finding.seen
    order = eval(finding.remedy.split("with ")[1])
    assert [sorted(NAMES)[index] for index in order] == NAMES


def test_other_names(digits, distiller):
    other = [*NAMES[:9], "neuf"]
    finding = found(diagnose(distiller, digits.loader(), classes=NAMES, teacher_classes=other), "class_names")
    assert finding.severity == "error"
    assert "only in the data: 'nine'; only in the teacher: 'neuf'" in finding.seen


def test_more_classes_than_outputs(digits, distiller):
    finding = found(diagnose(distiller, digits.loader(), classes=[*NAMES, "ten"]), "class_count")
    assert finding.severity == "error"
    assert "the student has 10 outputs and the teacher has 10 outputs; expected 11" in finding.message


@pytest.mark.parametrize("label", [10, -1])
def test_labels_out_of_range(digits, distiller, label):
    loader = digits.loader()
    loader[2].targets.untyped_storage()  # the split views share memory with the data set: work on a copy
    loader[2] = type(loader[2])(loader[2].inputs, loader[2].targets.clone(), ids=loader[2].ids)
    loader[2].targets[5] = label
    finding = found(diagnose(distiller, loader), "labels")
    assert finding.severity == "error"
    assert f"{label} in batch 2, samples 261" in finding.seen


def test_a_missing_label_is_no_bad_label(digits, distill):
    inputs, targets = digits.train
    some = targets.clone()
    some[::3] = -100
    assert diagnose(distill(mlp(16), None, CrossEntropy()), [(inputs, some)]) == []


def test_labels_out_of_range_in_validation(digits, distiller):
    inputs, targets = digits.val
    finding = found(
        diagnose(distiller, digits.loader(), val=[(inputs, torch.where(targets == 3, 30, targets))]), "labels"
    )
    assert finding.severity == "error"
