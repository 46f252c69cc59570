"""How well frozen features tell classes apart, and how alike two networks' features are."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

_LEAST = 1e-12


def log_maximum_evidence(
    features: Float[Tensor, "samples features"], targets: Int[Tensor, " samples"]
) -> Float[Tensor, ""]:
    r"""LogME: how probable the labels are under the best Bayesian linear model of the features.

    .. math:: \frac{1}{C} \sum_c \frac{1}{n} \max_{\alpha, \beta} \log \int
        \mathcal{N}(y_c \mid F w, \beta^{-1} I) \, \mathcal{N}(w \mid 0, \alpha^{-1} I) \, dw

    y_c is 1 for the samples of class c and 0 for all others. Unlike the likelihood of a fitted classifier it does not
    grow with features that mean nothing.

    Args:
        features: of a frozen network, such as what its last layer reads.
        targets: class indices; classes without a sample do not count.

    Returns:
        A scalar in float64; larger is better.

    Scale:
        Per sample, in nats, of a density: positive where the labels are told exactly, about -1/2 to 0 for features that
        say nothing of classes of equal size, without bounds. Compare it only on the same samples.

    Example:
        >>> classes = torch.arange(60) % 3
        >>> telling = torch.nn.functional.one_hot(classes).double() + 0.1 * torch.rand(60, 3)
        >>> bool(log_maximum_evidence(telling, classes) > log_maximum_evidence(torch.rand(60, 3), classes))
        True

    References:
        You, Liu, Wang, Long: LogME: Practical Assessment of Pre-trained Models for Transfer Learning, ICML 2021
        (arXiv:2102.11005), equation 2 and algorithm 1.
    """
    left, singular, _ = torch.linalg.svd(features.double(), full_matrices=False)
    wanted = torch.stack([(targets == label).double() for label in targets.unique()], dim=1)
    inside = left.T @ wanted
    outside = (wanted.square().sum(0) - inside.square().sum(0)).clamp_min(0.0)
    evidences = [
        _evidence(singular.square(), inside[:, column], outside[column], features.shape)
        for column in range(wanted.shape[1])
    ]
    return torch.stack(evidences).mean()


def centred_kernel_alignment(
    student: Float[Tensor, "samples features"], teacher: Float[Tensor, "samples others"]
) -> Float[Tensor, ""]:
    r"""Linear CKA: how alike two networks see the same samples, whatever the rotation and the scale of their features.

    .. math:: \frac{\lVert Y^T X \rVert_F^2}{\lVert X^T X \rVert_F \, \lVert Y^T Y \rVert_F}

    X and Y are the features with their means over the samples taken out.

    Args:
        student: one network's.
        teacher: another one's, of the same samples.

    Returns:
        A scalar.

    Scale:
        From 0 to 1; 1 for features that are equal but for a rotation, a shift and one factor. With fewer samples than
        features it is high for any two networks.

    Example:
        >>> features = torch.rand(20, 4)
        >>> round(float(centred_kernel_alignment(features, 3 * features.flip(1) + 1)), 5)
        1.0

    References:
        Kornblith, Norouzi, Lee, Hinton: Similarity of Neural Network Representations Revisited, ICML 2019
        (arXiv:1905.00414), section 3.
    """
    ours, theirs = (each.double() - each.double().mean(0) for each in (student, teacher))
    # Of the two ways to write it the one with the smaller matrices: by features, or by samples.
    if max(ours.shape[1], theirs.shape[1]) <= len(ours):
        shared, own, other = (theirs.T @ ours).square().sum(), ours.T @ ours, theirs.T @ theirs
    else:
        own, other = ours @ ours.T, theirs @ theirs.T
        shared = (own * other).sum()
    return (shared / (own.norm() * other.norm()).clamp_min(_LEAST)).to(student.dtype)


def _evidence(spectrum: Tensor, inside: Tensor, outside: Tensor, shape: torch.Size) -> Tensor:
    """The largest log evidence for one class, per sample."""
    samples, width = shape
    alpha, beta = torch.ones((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    for _ in range(200):
        shrink = alpha + beta * spectrum
        mean_square = (beta * spectrum.sqrt() * inside / shrink).square().sum()
        missed = (alpha * inside / shrink).square().sum() + outside
        known = (beta * spectrum / shrink).sum()
        before = alpha / beta
        alpha = (known / mean_square.clamp_min(_LEAST)).clamp(_LEAST, 1 / _LEAST)
        beta = (samples - known).clamp_min(_LEAST) / missed.clamp_min(_LEAST)
        if (alpha / beta - before).abs() <= 1e-6 * before:
            break
    shrink = alpha + beta * spectrum
    mean_square = (beta * spectrum.sqrt() * inside / shrink).square().sum()
    missed = (alpha * inside / shrink).square().sum() + outside
    volume = shrink.log().sum() + (width - len(spectrum)) * alpha.log()
    evidence = samples * beta.log() + width * alpha.log() - samples * math.log(2 * math.pi)
    return (evidence - beta * missed - alpha * mean_square - volume) / (2 * samples)
