"""Answers that belong to other samples are noticed."""

import copy

import pytest
import torch

import understudy as us
from doctor.setting import found, mlp
from understudy.batch import Batch
from understudy.doctor import diagnose


class Recorded:
    """Answers by sample id."""

    def __init__(self, answers: dict[int, torch.Tensor]) -> None:
        self.answers = answers

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> us.Knowledge:
        if any(int(each) not in self.answers for each in batch.ids):
            raise us.InputError("these samples were not recorded")
        return us.Knowledge(logits=torch.stack([self.answers[int(each)] for each in batch.ids]))


def record(teacher: torch.nn.Module, batches: list[Batch], *, order: torch.Tensor | None = None) -> dict:
    """What the teacher says about each sample; with ``order``, stored as a shuffled loader would have it."""
    inputs, ids = torch.cat([batch.inputs for batch in batches]), torch.cat([batch.ids for batch in batches])
    with torch.no_grad():
        answers = copy.deepcopy(teacher).eval()(inputs if order is None else inputs[order])
    return dict(zip(ids.tolist(), answers, strict=True))


def test_a_recording_by_id_is_fine(digits, distill, teacher):
    answers = record(teacher, digits.loader()) | record(teacher, digits.val_loader())
    assert diagnose(distill(mlp(16), Recorded(answers)), digits.loader(), val=digits.val_loader()) == []


def test_a_recording_of_the_training_samples_only_is_fine(digits, distill, teacher):
    recorded = Recorded(record(teacher, digits.loader()))
    assert diagnose(distill(mlp(16), recorded), digits.loader(), val=digits.val_loader()) == []


def test_a_recording_from_a_shuffled_loader(digits, distill, teacher):
    shuffled = record(teacher, digits.loader(), order=torch.randperm(len(digits.train[1])))
    recorded = Recorded(shuffled | record(teacher, digits.val_loader()))
    findings = diagnose(distill(mlp(16), recorded), digits.loader(), val=digits.val_loader())
    finding = found(findings, "same_samples")
    assert finding.severity == "error"
    assert "of 1024 labelled samples of the loader, chance is 10.0%, but on 9" in finding.seen


def test_a_shuffled_recording_without_validation_answers(digits, distill, teacher):
    recorded = Recorded(record(teacher, digits.loader(), order=torch.randperm(len(digits.train[1]))))
    finding = found(diagnose(distill(mlp(16), recorded), digits.loader(), val=digits.val_loader()), "teacher_quality")
    assert finding.severity == "error"
    assert "other samples" in finding.remedy


def test_a_partly_wrong_recording_is_a_warning(digits, distill, teacher):
    count = len(digits.train[1])
    order = torch.arange(count)
    order[: count // 2] = torch.randperm(count // 2)
    recorded = Recorded(record(teacher, digits.loader(), order=order) | record(teacher, digits.val_loader()))
    findings = diagnose(distill(mlp(16), recorded), digits.loader(), val=digits.val_loader(), batches=20)
    assert found(findings, "same_samples").severity == "warning"


def test_a_loader_whose_labels_left_their_images(digits, distiller):
    inputs, targets = digits.train
    loader = [(inputs, targets[torch.randperm(len(targets))])]
    assert found(diagnose(distiller, loader, val=digits.val_loader()), "same_samples").severity == "error"


class Truncated(Recorded):
    """Lost the last answers of large batches."""

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> us.Knowledge:
        logits = super().observe(batch, taps).logits
        return us.Knowledge(logits=logits[:100] if int(batch.ids.min()) >= 128 else logits)


def test_missing_answers(digits, distill, teacher):
    distiller = distill(mlp(16), Truncated(record(teacher, digits.loader()) | record(teacher, digits.val_loader())))
    for findings in (
        diagnose(distiller, digits.loader()),
        diagnose(distiller, digits.loader()[:1], val=digits.val_loader()),
    ):
        assert "teacher (100,), student (128,)" in found(findings, "same_samples").seen
    with pytest.raises(us.InputError, match="answers for other positions"):
        us.doctor.check_teacher(distiller, digits.loader())
