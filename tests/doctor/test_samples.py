"""Answers that belong to other samples are noticed."""

import copy

import pytest
import torch
from safetensors.torch import load_file

import understudy as us
from doctor.setting import OBJECTIVE, TASK, found, mlp
from understudy.batch import Batch
from understudy.doctor import diagnose
from understudy.recorder import record as record_to_disk
from understudy.recordings.shards import write_shard
from understudy.sources.loader import Loader
from understudy.sources.splits import Split
from understudy.views import Views


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


def split_of(inputs: torch.Tensor, targets: torch.Tensor, name: str, *, first: int) -> Split:
    ids, classes = torch.arange(len(inputs)) + first, tuple(map(str, range(10)))
    return Split(inputs=inputs, targets=targets, ids=ids, classes=classes, name=name)


@pytest.fixture
def shifted(digits) -> tuple[Loader, Loader]:
    """Training images moved by up to two pixels, and validation images as they are."""
    train, val = split_of(*digits.train, "train", first=0), split_of(*digits.val, "validation", first=10_000)
    views = Loader(train, batch_size=128, seed=3, views=Views(shift=2), cycle=2, view_seed=0)
    return views, Loader(val, batch_size=128, shuffle=False)


def test_views_that_a_recorded_teacher_reads_badly_are_not_taken_for_other_samples(shifted, teacher, tmp_path):
    train, val = shifted
    made = record_to_disk(teacher, train.split, tmp_path, views=train.views, count=2, plain=val.split)
    distiller = us.Distiller(mlp(16), us.Recorded(made), OBJECTIVE, example=next(iter(train)), task=TASK)
    findings = diagnose(distiller, train, val=val)
    finding = found(findings, "augmented_samples")
    assert finding.message == "the teacher reads the augmented samples much worse than samples as they are"
    assert "same `views`" in finding.remedy
    assert not [each for each in findings if each.check == "same_samples"]
    for path in tmp_path.glob("view-*/*"):  # as another program may write it: without the inputs' checksums
        tensors = {name: tensor for name, tensor in load_file(path).items() if name != "inputs"}
        path.unlink()
        number = int(path.parent.name[-3:])
        write_shard(tmp_path, number, int(path.name.split("-")[1]), tensors)
    distiller = us.Distiller(mlp(16), us.Recorded(tmp_path), OBJECTIVE, example=next(iter(train)), task=TASK)
    assert "or its answers belong" in found(diagnose(distiller, train, val=val), "same_samples").message


def test_views_that_a_live_teacher_reads_badly(shifted, distill, teacher):
    train, val = shifted
    assert found(diagnose(distill(mlp(16), teacher), train, val=val), "augmented_samples").severity != "note"


def test_views_and_answers_that_nobody_can_check_leave_both_open(shifted, distill, teacher):
    train, val = shifted
    batches = [Batch(inputs=each.inputs, ids=each.ids, targets=each.targets) for each in train]
    answers = record(teacher, batches) | record(teacher, [*val])
    finding = found(diagnose(distill(mlp(16), Recorded(answers)), train, val=val), "same_samples")
    assert "badly" not in finding.message
    assert "worse than samples as they are, or its answers belong to other samples" in finding.message
