"""Quality on answers that were counted by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from understudy import IGNORE_INDEX, Batch, Classification, InputError
from understudy.knowledge import Knowledge
from understudy.measure import Predictions, Tally, agreement, judge, predict, quality

TASK = Classification()


def predictions(logits, targets, ids=None) -> Predictions:
    return Predictions(
        logits=torch.tensor(logits, dtype=torch.float32),
        targets=torch.tensor(targets),
        ids=None if ids is None else torch.tensor(ids),
    )


THREE = predictions(
    [[2, 0, 0], [0, 2, 0], [0, 2, 0], [0, 0, 2], [9, 0, 0]], [0, 1, 2, 2, IGNORE_INDEX], [10, 11, 12, 13, 14]
)


def test_predicting_keeps_order_ids_and_modes():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.9), nn.Linear(8, 3)).train()
    model[2].eval()
    inputs, targets = torch.rand(10, 4), torch.arange(10) % 3
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loader = [
        Batch(inputs=inputs[part], targets=targets[part], ids=100 + torch.arange(10)[part])
        for part in (slice(0, 4), slice(4, 8), slice(8, 10))
    ]
    found = predict(model, loader, TASK)
    assert [module.training for module in model.modules()] == [True, True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(found.logits, model.eval()(inputs).detach())
    assert torch.equal(found.targets, targets)
    assert found.ids is not None
    assert found.ids.tolist() == list(range(100, 110))
    assert not found.logits.is_inference()


def test_predicting_from_raw_batches_and_unlabelled_ones():
    found = predict(nn.Linear(4, 3), [(torch.rand(2, 4), torch.tensor([0, 1])), torch.rand(3, 4)], TASK)
    assert found.targets.tolist() == [0, 1, IGNORE_INDEX, IGNORE_INDEX, IGNORE_INDEX]
    assert found.ids is None
    with pytest.raises(InputError, match="loader is empty"):
        predict(nn.Linear(4, 3), [], TASK)


class TokenTask(Classification.__mro__[1]):  # what a language model will look like: (batch, places, classes)
    kind: str = "tokens"

    def observe(self, model, batch):
        return Knowledge(logits=model(batch.inputs), mask=batch.mask)


def test_places_that_do_not_count_are_left_out():
    mask = torch.tensor([[True, True, False], [True, False, False]])
    batch = Batch(
        inputs=torch.rand(2, 3, 4), targets=torch.tensor([[0, 1, 2], [2, 0, 0]]), mask=mask, ids=torch.tensor([7, 9])
    )
    found = predict(nn.Linear(4, 3), [batch], TokenTask())
    assert found.targets.tolist() == [0, 1, 2]
    assert found.ids is not None
    assert found.ids.tolist() == [7, 7, 9]
    assert found.logits.shape == (3, 3)
    whole = predict(nn.Linear(4, 3), [Batch(inputs=torch.rand(2, 3, 4), ids=torch.tensor([7, 9]))], TokenTask())
    assert (whole.logits.shape, whole.targets.shape) == ((6, 3), (6,))


def test_quality_by_hand():
    found = quality(THREE, TASK)
    assert (found["accuracy"], found["errors"], found["samples"]) == (0.75, 1.0, 4.0)
    assert found["recall"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert found["precision"] == pytest.approx((1 + 0.5 + 1) / 3)
    confidence = math.exp(2) / (math.exp(2) + 2)
    assert found["calibration_error"] == pytest.approx(abs(confidence - 0.75), abs=1e-6)


def counted(*parts: Predictions) -> Tally:
    tally = Tally(TASK)
    for part in parts:
        tally.add(part)
    return tally


def test_confusion_has_true_classes_in_rows():
    assert counted(THREE).answers().confusion(3) == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    unlabelled = replace(THREE, targets=torch.full_like(THREE.targets, IGNORE_INDEX))
    assert counted(THREE, unlabelled).answers().confusion(3) == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]


def test_labels_that_are_not_there_or_not_possible():
    with pytest.raises(InputError, match="none of the 1 samples has a label"):
        quality(predictions([[1.0, 2.0]], [IGNORE_INDEX]), TASK)
    with pytest.raises(InputError, match=r"labels must be 0 to 1 .*found 4"):
        quality(predictions([[1.0, 2.0]], [4]), TASK)


def test_agreement_by_hand():
    student = predictions([[0, 0], [3, 0]], [0, 0], [1, 2])
    teacher = predictions([[0, math.log(3)], [3, 0]], [0, 0], [1, 2])
    found = agreement(student, teacher)
    by_hand = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert found["agreement"] == 0.5
    assert found["kl_from_teacher"] == pytest.approx(by_hand / 2, abs=1e-7)
    assert agreement(student, student) == {"agreement": 1.0, "kl_from_teacher": 0.0, "kl_to_teacher": 0.0}


def test_agreement_has_two_directions():
    student, teacher = predictions([[0, 0]], [0], [1]), predictions([[0, math.log(3)]], [0], [1])
    there, back = agreement(student, teacher), agreement(teacher, student)
    assert there["kl_from_teacher"] != pytest.approx(there["kl_to_teacher"])
    assert there["kl_from_teacher"] == pytest.approx(back["kl_to_teacher"])


def test_judging_batch_by_batch_says_what_judging_at_once_says():
    torch.manual_seed(0)
    student, teacher = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3)), nn.Linear(4, 3)
    inputs, targets = torch.rand(10, 4), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, IGNORE_INDEX])
    parts = [slice(0, 4), slice(4, 8), slice(8, 10)]  # of different sizes, so that a mean of means is another number
    batches = [Batch(inputs=inputs[part], targets=targets[part], ids=torch.arange(10)[part]) for part in parts]
    found = judge({"s": student, "t": teacher}, batches, TASK, teachers={"s": "t"})
    whole = {name: predict(model, batches, TASK) for name, model in (("s", student), ("t", teacher))}
    assert student.training
    assert found["s"].quality() == pytest.approx(quality(whole["s"], TASK))
    assert found["s"].agreement() == pytest.approx(agreement(whole["s"], whole["t"]))
    assert found["t"].agreement() == {}
    answers = found["t"].answers()
    probability, best = whole["t"].logits.softmax(-1).max(-1)
    torch.testing.assert_close((answers.best, answers.probability), (best, probability))
    assert answers.targets.tolist() == targets.tolist()
    assert answers.ids is not None
    assert answers.ids.tolist() == list(range(10))


def test_judging_on_nothing_is_refused():
    with pytest.raises(InputError, match="the loader is empty"):
        judge({"model": nn.Linear(4, 3)}, [], TASK)


def test_agreement_matches_samples_by_id():
    shuffled = torch.tensor([3, 0, 4, 1, 2])
    assert THREE.ids is not None
    teacher = Predictions(THREE.logits[shuffled], THREE.targets[shuffled], THREE.ids[shuffled])
    assert agreement(THREE, teacher) == {"agreement": 1.0, "kl_from_teacher": 0.0, "kl_to_teacher": 0.0}
    assert agreement(teacher, THREE) == {"agreement": 1.0, "kl_from_teacher": 0.0, "kl_to_teacher": 0.0}


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (predictions([[1, 0], [0, 1]], [0, 1], [1, 3]), r"different samples \(ids \[2, 3\]"),
        (predictions([[1, 0]], [0], [1]), r"student answered 2 samples, the teacher 1"),
        (predictions([[1, 0, 0], [0, 1, 0]], [0, 1], [1, 2]), r"student answers with 2 classes, the teacher with 3"),
        (predictions([[1, 0], [0, 1]], [1, 0]), r"without sample ids and with targets in different orders"),
    ],
)
def test_other_samples_or_classes_are_refused(teacher, message):
    with pytest.raises(InputError, match=message):
        agreement(predictions([[1, 0], [0, 1]], [0, 1], [1, 2]), teacher)
