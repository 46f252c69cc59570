"""What makes generated images worth learning from, against loops over single numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from understudy.functional import imbalance, indecision, logit_distance, statistics_gap

seeds = st.integers(0, 2**31 - 1)
counts = st.integers(1, 6)
classes = st.integers(2, 7)


def drawn(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3.0 * torch.randn(*shape, generator=generator, dtype=torch.float64)


def probabilities(row: list[float]) -> list[float]:
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


def distance_reference(student: list[float], teacher: list[float]) -> float:
    total = 0.0
    for own, other in zip(student, teacher, strict=True):
        total += own - other if own > other else other - own
    return total / len(student)


def indecision_reference(rows: list[list[float]]) -> float:
    total = 0.0
    for row in rows:
        chosen = max(range(len(row)), key=row.__getitem__)
        total -= math.log(probabilities(row)[chosen])
    return total / len(rows)


def imbalance_reference(rows: list[list[float]]) -> float:
    answers = [probabilities(row) for row in rows]
    entropy = 0.0
    for k in range(len(rows[0])):
        mean = sum(answer[k] for answer in answers) / len(answers)
        entropy -= mean * math.log(mean)
    return math.log(len(rows[0])) - entropy


def gap_reference(features: Tensor, mean: list[float], variance: list[float]) -> float:
    squares = [0.0, 0.0]
    for channel in range(features.shape[1]):
        values = features[:, channel].flatten().tolist()
        centre = sum(values) / len(values)
        spread = sum((value - centre) ** 2 for value in values) / len(values)
        squares[0] += (centre - mean[channel]) ** 2
        squares[1] += (spread - variance[channel]) ** 2
    return math.sqrt(squares[0]) + math.sqrt(squares[1])


@given(seeds, counts, classes)
def test_logit_distance(seed, count, classes) -> None:
    student, teacher = drawn(seed, count, classes), drawn(seed + 1, count, classes)
    expected = [distance_reference(*rows) for rows in zip(student.tolist(), teacher.tolist(), strict=True)]
    assert logit_distance(student, teacher).tolist() == pytest.approx(expected, rel=1e-12)
    assert logit_distance(student, student).abs().max() == 0.0


@given(seeds, counts, classes)
def test_indecision(seed, count, classes) -> None:
    logits = drawn(seed, count, classes)
    assert float(indecision(logits)) == pytest.approx(indecision_reference(logits.tolist()), rel=1e-10)
    assert float(indecision(torch.zeros(count, classes))) == pytest.approx(math.log(classes), rel=1e-6)
    assert indecision(1e4 * torch.eye(classes)) == 0.0


@given(seeds, counts, classes)
def test_imbalance(seed, count, classes) -> None:
    logits = drawn(seed, count, classes)
    assert float(imbalance(logits)) == pytest.approx(imbalance_reference(logits.tolist()), rel=1e-9, abs=1e-12)
    assert float(imbalance(1e4 * torch.eye(classes))) == pytest.approx(0.0, abs=1e-6)
    alike = torch.zeros(count, classes).index_fill(1, torch.tensor([0]), 1e4)
    assert float(imbalance(alike)) == pytest.approx(math.log(classes), rel=1e-6)


@given(seeds, counts, st.integers(1, 4), st.sampled_from([(), (3,), (2, 3)]))
def test_statistics_gap(seed, count, channels, place) -> None:
    features = drawn(seed, count, channels, *place)
    mean, variance = drawn(seed + 1, channels), drawn(seed + 2, channels).abs()
    expected = gap_reference(features, mean.tolist(), variance.tolist())
    assert float(statistics_gap(features, mean=mean, variance=variance)) == pytest.approx(expected, rel=1e-10)


def test_it_is_zero_for_the_data_that_a_layer_has_seen() -> None:
    layer, features = torch.nn.BatchNorm2d(3, momentum=1.0), drawn(3, 50, 3, 4, 4).float()
    layer(features)
    count = features.numel() / 3  # the layer keeps the variance over n - 1
    assert layer.running_mean is not None
    assert layer.running_var is not None
    variance = layer.running_var * (count - 1) / count
    assert statistics_gap(features, mean=layer.running_mean, variance=variance) < 1e-4


@pytest.mark.parametrize(
    "function",
    [
        lambda x: logit_distance(x, x.flip(0)).sum(),
        indecision,
        imbalance,
        lambda x: statistics_gap(x, mean=torch.ones(4, dtype=x.dtype), variance=torch.ones(4, dtype=x.dtype)),
    ],
)
def test_gradients_reach_the_images_and_are_finite_where_it_is_extreme(function) -> None:
    assert torch.autograd.gradcheck(function, drawn(5, 6, 4).requires_grad_())
    extreme = (1e4 * drawn(5, 6, 4)).float().requires_grad_()
    value = function(extreme)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(extreme.grad).all()
