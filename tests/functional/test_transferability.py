"""LogME against the evidence of a dense Gaussian, maximised by brute force; CKA against its definition by kernels."""

import math

import pytest
import torch

from understudy.functional import centred_kernel_alignment, log_maximum_evidence


def dense_evidence(features, wanted, alpha, beta) -> float:
    """The log density of labels under N(0, I/β + F F^T/α), without any trick."""
    samples = len(features)
    covariance = torch.eye(samples, dtype=torch.float64) / beta + features @ features.T / alpha
    return float(torch.distributions.MultivariateNormal(torch.zeros(samples).double(), covariance).log_prob(wanted))


@pytest.mark.parametrize(("samples", "width"), [(30, 4), (12, 20)])
def test_it_is_the_largest_evidence_there_is(samples, width) -> None:
    features = torch.randn(samples, width, dtype=torch.float64)
    targets = (features[:, 0] + 0.5 * torch.randn(samples) > 0).long()
    found = float(log_maximum_evidence(features, targets))
    grid = [10**exponent for exponent in torch.linspace(-2, 3, 41).tolist()]
    best = []
    for label in (0, 1):
        wanted = (targets == label).double()
        best.append(max(dense_evidence(features, wanted, alpha, beta) for alpha in grid for beta in grid) / samples)
    assert found >= sum(best) / 2 - 1e-6
    assert found == pytest.approx(sum(best) / 2, abs=0.02)


def test_features_that_tell_more_score_higher_and_rotations_do_not_matter() -> None:
    targets = torch.arange(90) % 3
    telling = torch.nn.functional.one_hot(targets).double()
    scores = [
        float(log_maximum_evidence(telling + noise * torch.randn(90, 3, dtype=torch.float64), targets))
        for noise in (0.05, 0.5, 5.0)
    ]
    assert scores == sorted(scores, reverse=True)
    features = telling + 0.3 * torch.randn(90, 3, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    assert float(log_maximum_evidence(features @ rotation, targets)) == pytest.approx(
        float(log_maximum_evidence(features, targets))
    )


def test_exact_and_empty_features_have_a_finite_score() -> None:
    targets = torch.arange(40) % 2
    exact = torch.nn.functional.one_hot(targets).double()
    assert math.isfinite(float(log_maximum_evidence(exact, targets)))
    assert math.isfinite(float(log_maximum_evidence(torch.zeros(40, 5), targets)))


def by_kernels(student, teacher) -> float:
    """The definition, by matrices of the samples' similarities."""
    count = len(student)
    centre = torch.eye(count, dtype=torch.float64) - 1 / count
    own, other = (centre @ (each @ each.T) @ centre for each in (student.double(), teacher.double()))
    return float((own * other).sum() / (own.square().sum() * other.square().sum()).sqrt())


@pytest.mark.parametrize(("samples", "widths"), [(40, (5, 9)), (8, (20, 3))])
def test_alignment_is_that_of_the_kernels(samples, widths) -> None:
    student, teacher = (torch.randn(samples, width) for width in widths)
    assert float(centred_kernel_alignment(student, teacher)) == pytest.approx(by_kernels(student, teacher), abs=1e-5)


def test_alignment_is_blind_to_rotations_and_scale_and_sees_the_rest() -> None:
    features = torch.randn(200, 6)
    rotation = torch.linalg.qr(torch.randn(6, 6))[0]
    assert float(centred_kernel_alignment(features, 7 * features @ rotation - 2)) == pytest.approx(1.0, abs=1e-5)
    assert float(centred_kernel_alignment(features, torch.randn(200, 6))) < 0.2
    assert float(centred_kernel_alignment(torch.ones(5, 2), torch.randn(5, 2))) == 0.0
