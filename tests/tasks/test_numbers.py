"""Numbers of samples: what counts as known, how they are measured, and which terms are about them."""

import pytest
import torch
from sklearn import metrics as sklearn
from torch import nn

from understudy import (
    Batch,
    CrossEntropy,
    Distiller,
    InputError,
    LogitMse,
    NumberRegression,
    Regression,
    SoftTargets,
    SquaredError,
    TextRegression,
)
from understudy.batch import contradicting, known, unknown
from understudy.measure import Predictions, Tally
from understudy.sources import BuiltinModel, build_model
from understudy.tokenizing import Words, bytes_of

TASK = NumberRegression()
NAN = float("nan")


def predictions(numbers, targets, ids=None) -> Predictions:
    return Predictions(torch.tensor(numbers), torch.tensor(targets), None if ids is None else torch.tensor(ids))


def test_what_nobody_knows_is_not_a_number() -> None:
    batch = TASK.batch((torch.rand(3, 2), torch.tensor([1.0, NAN, 2.0])))
    assert batch.targets.shape == (3, 1)
    assert batch.labelled.tolist() == batch.supervised.tolist() == [True, False, True]
    several = TASK.batch({"x": torch.rand(2, 2), "labels": torch.tensor([[1.0, NAN], [1.0, 2.0]])})
    assert several.labelled.tolist() == [False, True]
    masked = Batch(inputs=torch.rand(2, 1), targets=torch.ones(2, 1), mask=torch.tensor([True, False]))
    assert masked.labelled.tolist() == [True, False]


def test_known_unknown_and_contradicting() -> None:
    classes, numbers = torch.tensor([0, -100, 2]), torch.tensor([[0.0, 1.0], [NAN, 1.0], [2.0, 3.0]])
    for targets in (classes, numbers):
        assert known(targets).tolist() == [True, False, True]
        assert not known(unknown(targets)).any()
        assert unknown(targets).dtype == targets.dtype
        assert not contradicting(targets, targets).any()
    assert contradicting(classes, torch.tensor([0, 1, 1])).tolist() == [False, False, True]
    other = torch.tensor([[0.0, 2.0], [5.0, 5.0], [2.0, 3.0]])
    assert contradicting(numbers, other).tolist() == [True, False, False]


@pytest.mark.parametrize("targets", [torch.ones(2, 1, 1), torch.tensor([True, False]), [1.0, 2.0]])
def test_targets_that_are_no_numbers_of_samples(targets) -> None:
    with pytest.raises(InputError, match="expected"):
        TASK.batch((torch.rand(2, 2), targets))


def test_whole_numbers_are_numbers() -> None:
    assert TASK.batch((torch.rand(2, 2), torch.tensor([4, 7]))).targets.tolist() == [[4.0], [7.0]]


def test_a_model_with_other_outputs_is_refused() -> None:
    with pytest.raises(InputError, match=r"answers 2 numbers for each sample, and the targets are of shape \(3, 1\)"):
        Distiller(nn.Linear(2, 2), None, SquaredError(), example=(torch.rand(3, 2), torch.rand(3)), task=TASK)


@pytest.mark.parametrize("count", [1, 3])
def test_metrics_are_those_of_scikit_learn(count) -> None:
    answers, targets = torch.randn(30, count), torch.randn(30, count)
    targets[:, 0] += answers[:, 0]
    collection = TASK.metrics(count)
    for rows in (slice(0, 11), slice(11, 30)):
        collection.update(answers[rows], targets[rows])
    found = {name: float(value) for name, value in collection.compute().items()}
    mse = sklearn.mean_squared_error(targets, answers)
    assert found["mse"] == pytest.approx(mse, rel=1e-6)
    assert found["rmse"] == pytest.approx(mse**0.5, rel=1e-6)
    assert found["mae"] == pytest.approx(sklearn.mean_absolute_error(targets, answers), rel=1e-6)
    assert found["r2"] == pytest.approx(sklearn.r2_score(targets, answers), rel=1e-5)
    assert -1.0 <= found["pearson"] <= 1.0
    assert -1.0 <= found["spearman"] <= 1.0


def test_the_headline_says_which_way_is_better() -> None:
    falling = [NumberRegression(metric=name).lower_is_better for name in ("rmse", "mse", "mae")]
    rising = [NumberRegression(metric=name).lower_is_better for name in ("pearson", "spearman", "r2")]
    assert all(falling)
    assert not any(rising)


def test_a_tally_counts_what_is_known_and_compares_all() -> None:
    tally = Tally(TASK)
    teacher = predictions([[1.0], [2.0], [3.0]], [[0.0], [NAN], [3.0]])
    tally.add(predictions([[1.0], [4.0], [5.0]], [[0.0], [NAN], [3.0]]), teacher)
    tally.add(predictions([[7.0]], [[7.0]]), predictions([[4.0]], [[7.0]]))
    found = tally.quality()
    assert "errors" not in found
    assert found["samples"] == 3
    assert found["mse"] == pytest.approx((1 + 4 + 0) / 3)
    assert tally.agreement()["rmse_to_teacher"] == pytest.approx(((0 + 4 + 4 + 9) / 4) ** 0.5)
    assert tally.agreement()["spearman_to_teacher"] == pytest.approx(1.0)
    answers = tally.answers()
    assert answers.confusion(1) is None
    assert answers.label(1, ("score",)) is None
    assert (answers.label(2, ("score",)), answers.told(2, ("score",))) == ("3", {"class": "5", "probability": None})


def test_nothing_known_is_nothing_to_measure() -> None:
    tally = Tally(TASK)
    tally.add(predictions([[1.0]], [[NAN]]))
    with pytest.raises(InputError, match="none of the 1 samples has a label"):
        tally.quality()


def test_the_largest_differences_come_first() -> None:
    tallies = [Tally(TASK), Tally(TASK)]
    tallies[0].add(predictions([[1.0], [2.0], [3.0]], [[0.0]] * 3))
    tallies[1].add(predictions([[1.5], [5.0], [3.0]], [[0.0]] * 3))
    assert tallies[0].answers().differing(tallies[1].answers()).tolist() == [1, 0, 2]


@pytest.mark.parametrize("term", [SoftTargets(), CrossEntropy()])
def test_terms_about_classes_are_refused(term) -> None:
    example = (torch.rand(3, 2), torch.rand(3))
    with pytest.raises(InputError, match="is not about numbers, which task 'regression' answers; use regression"):
        Distiller(nn.Linear(2, 1), nn.Linear(2, 1), term, example=example, task=TASK)


def test_true_numbers_are_nothing_for_a_classifier() -> None:
    example = (torch.rand(3, 2), torch.tensor([0, 1, 0]))
    with pytest.raises(InputError, match="squared_error is not about classes"):
        Distiller(nn.Linear(2, 2), None, SquaredError(), example=example)


def test_a_student_of_texts_learns_numbers_from_true_ones_and_from_a_teacher() -> None:
    texts = ("good good film", "a bad film", "good", "bad bad", "a film", "bad good")
    rows = bytes_of(texts)
    true = torch.tensor([text.count("good") - text.count("bad") for text in texts]).float()
    task = TextRegression()

    def network(name: str) -> nn.Module:
        return build_model(
            BuiltinModel(name=name, arguments={"embedding": 6}, preprocess=Words(buckets=50)),
            classes=("score",),
            inputs=rows,
        )

    def trained(model, teacher, objective, targets) -> nn.Module:
        distiller = Distiller(model, teacher, objective, example=(rows, targets), task=task)
        optimizer = torch.optim.Adam(distiller.parameters(), lr=0.05)
        for _ in range(150):
            optimizer.zero_grad()
            distiller((rows, targets)).loss.backward()
            optimizer.step()
        return model

    teacher = trained(network("lstm"), None, SquaredError(), true)
    with torch.no_grad():
        assert (teacher(rows).squeeze(1) - true).abs().max() < 0.2
    unknown_ones = torch.full_like(true, NAN)
    objective = SquaredError() + Regression() + 0.1 * LogitMse()
    student = trained(network("bag"), teacher, objective, unknown_ones)
    with torch.no_grad():
        assert (student(rows) - teacher(rows)).abs().max() < 0.5
