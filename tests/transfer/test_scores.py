"""A probe is the logistic regression of everybody, and features that know more score higher."""

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import nn

from understudy import Batch, Classification, InputError
from understudy.transfer.probe import fitted_probe, put_probe
from understudy.transfer.scores import score_source

TASK = Classification()


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = load_digits(return_X_y=True)
    return torch.tensor(inputs / 16.0, dtype=torch.float32), torch.tensor(targets)


def test_the_probe_is_that_of_scikit_learn(digits) -> None:
    features, targets = digits[0][:300, 10:40] * torch.linspace(0.1, 50, 30) + 7, digits[1][:300]
    weight, bias = fitted_probe(features, targets, classes=10)
    mean, deviation = features.mean(0), features.std(0, correction=0).clamp_min(1e-6)
    known = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit((features - mean) / deviation, targets)
    ours = torch.softmax((features @ weight.T + bias).double(), 1)
    theirs = torch.tensor(known.predict_proba((features - mean) / deviation))
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)


def test_only_the_head_gets_new_weights(digits) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    before = network[0].weight.clone()
    batches = [Batch(digits[0][first : first + 100], digits[1][first : first + 100]) for first in range(0, 500, 100)]
    batches[0].targets[:50] = -100  # without labels, they are not looked at
    put_probe(network, "2", batches, TASK)
    assert torch.equal(network[0].weight, before)
    assert network.training
    answers = network(digits[0][500:1000]).argmax(1)
    assert (answers == digits[1][500:1000]).float().mean() > 0.7


def test_a_network_that_knows_the_task_scores_higher(digits) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    train = [Batch(digits[0][:400], digits[1][:400])]
    val = [Batch(digits[0][400:800], digits[1][400:800])]
    fresh = score_source(network, train, val, task=TASK, classes=10)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(digits[0][800:]), digits[1][800:]).backward()
        optimizer.step()
    trained = score_source(network, train, val, task=TASK, classes=10)
    assert trained.evidence > fresh.evidence
    assert trained.probe > fresh.probe
    assert trained.features == 32
    assert trained.alignment is None


@pytest.mark.parametrize(
    ("network", "batches", "message"),
    [
        (nn.Sequential(nn.Linear(64, 10)), [], "needs samples"),
        (
            nn.Sequential(nn.Linear(64, 10)),
            [Batch(torch.rand(4, 64), torch.full((4,), -100))],
            "needs labelled samples",
        ),
        (
            nn.Sequential(nn.Linear(64, 10), nn.ReLU()),
            [Batch(torch.rand(4, 64), torch.arange(4))],
            "head cannot be exchanged",
        ),
        (
            nn.Sequential(nn.Unflatten(1, (64, 1, 1)), nn.Conv2d(64, 10, 1), nn.Flatten()),
            [Batch(torch.rand(4, 64), torch.arange(4))],
            "is Conv2d",
        ),
    ],
)
def test_what_cannot_be_scored_is_said(network, batches, message) -> None:
    with pytest.raises(InputError, match=message):
        score_source(network, batches, batches, task=TASK, classes=10)
