"""What is looked at: few rows, the labelled ones first, and no longer than a few seconds."""

import pytest
import torch

from doctor.setting import TASK, batches
from understudy import IGNORE_INDEX, Batch, CrossEntropy, Distiller, Knowledge
from understudy.doctor import evidence


def test_labelled_rows_come_first_and_keep_their_names():
    targets = torch.full((300,), IGNORE_INDEX)
    targets[[5, 200, 299]] = torch.tensor([1, 2, 3])
    (batch,) = batches(torch.arange(300.0)[:, None], targets, size=300, first=1000)
    head = evidence.head(batch)
    assert len(head) == evidence.MOST_ROWS
    assert head.ids[:5].tolist() == [1005, 1200, 1299, 1000, 1001]
    assert torch.equal(head.inputs[:, 0] + 1000.0, head.ids.float())


def test_without_ids_rows_stay_in_order():
    targets = torch.full((300,), IGNORE_INDEX)
    targets[200] = 1
    head = evidence.head(Batch(torch.arange(300.0)[:, None], targets))
    assert head.inputs[:, 0].tolist() == list(range(evidence.MOST_ROWS))


def test_rows_of_inputs_of_any_structure():
    inputs = {"tokens": torch.arange(8).reshape(4, 2), "scale": torch.tensor(2.0), "pair": (torch.arange(4), "name")}
    turned = evidence.rows(Batch(inputs, ids=torch.arange(4)), torch.tensor([3, 0]))
    assert turned.inputs["tokens"].tolist() == [[6, 7], [0, 1]]
    assert turned.inputs["scale"] == 2.0
    assert turned.inputs["pair"][0].tolist() == [3, 0]
    assert turned.ids.tolist() == [3, 0]


def test_reading_stops_when_the_time_is_up(digits, distiller, monkeypatch):
    assert len(evidence.read(distiller, digits.loader(), 8)) == 8
    monkeypatch.setattr(evidence, "MOST_SECONDS", 0.0)
    assert len(evidence.read(distiller, digits.loader(), 8)) == 1
    assert len(evidence.observe(distiller, digits.loader())) == 1


def test_accuracy_is_counted_over_usable_labels():
    logits = torch.eye(4)[[0, 1, 2, 3, 0]]
    batch = Batch(torch.zeros(5, 1), torch.tensor([0, 1, 3, IGNORE_INDEX, 9]))
    found = evidence.answers(TASK, [(Knowledge(logits), batch)])
    assert (len(found), found.accuracy, found.chance) == (3, 2 / 3, 0.25)
    assert found.confusion().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]


def test_a_measured_fraction_is_never_certain():
    assert evidence.standard_error(1.0, 100) == 0.0
    assert evidence.error_of(1.0, 96) == pytest.approx((0.98 * 0.02 / 100) ** 0.5)
    assert evidence.error_of(0.0, 96) == pytest.approx(evidence.error_of(1.0, 96))
    assert evidence.error_of(0.5, 10_000) == pytest.approx(0.005, rel=1e-3)


def test_a_mean_over_classes_is_worth_as_much_as_its_rarest_class():
    labels = torch.tensor([0] * 360 + [1] * 12 + [2] * 12)
    assert evidence.worth(labels, "accuracy") == 384
    assert evidence.worth(labels, "recall") == pytest.approx(9 / (1 / 360 + 2 / 12))
    assert evidence.worth(torch.arange(30) % 3, "f1") == pytest.approx(30)
    assert evidence.worth(labels[:0], "recall") == 0


def test_fewer_rows_are_shown_where_each_has_very_many_logits(monkeypatch):
    student = torch.nn.Linear(4, 10)
    given = batches(torch.randn(40, 4), torch.arange(40) % 10, size=40)
    distiller = Distiller(student, None, CrossEntropy(), example=given[0], task=TASK)
    assert (evidence.affordable(distiller), evidence.few(distiller)) == (evidence.MOST_ROWS, evidence.FEW_ROWS)
    monkeypatch.setattr(evidence, "MOST_VALUES", 75)
    monkeypatch.setattr(evidence, "_MOST_LEARNT", 59)
    assert [len(seen.batch) for seen in evidence.observe(distiller, given)] == [7]
    assert evidence.few(distiller) == 5
    monkeypatch.setattr(evidence, "MOST_VALUES", 1)
    assert evidence.affordable(distiller) == 2, "two rows are needed to tell them apart"
