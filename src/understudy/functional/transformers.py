"""Losses between what only transformers have: class tokens, attention matrices, relations of queries, keys, values."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from understudy.functional.divergences import kl_divergence
from understudy.functional.geometry import precise, products, unit
from understudy.functional.reduction import masked_mean


def patient_loss(
    student_feature: Float[Tensor, "batch channels"],
    teacher_feature: Float[Tensor, "batch channels"],
    *,
    mask: Bool[Tensor, " batch"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Mean squared difference of two vectors of unit length.

    .. math:: \frac{1}{N C} \sum_i \left\| \frac{s_i}{\|s_i\|_2} - \frac{t_i}{\|t_i\|_2} \right\|_2^2

    Args:
        student_feature: (batch, channels), already adapted to the teacher's width; the gradient goes here.
        teacher_feature: the same shape; a constant of the loss, which gives it no gradient.
        mask: (batch,), which rows count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar, in float32 or better.

    Scale:
        0 where both point the same way, at most :math:`4 / C`: :math:`2 / C` times the cosine distance. The paper sums
        over the channels; the authors' code takes the mean, for which their weights of 10 to 1000 are, and so
        does this. A vector of zeros stays zero, and gets no gradient.

    Example:
        >>> import torch
        >>> patient_loss(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 0.5]]))
        tensor(1.)

    References:
        Sun et al.: Patient Knowledge Distillation for BERT Model Compression, EMNLP 2019 (arXiv:1908.09355).
    """
    difference = unit(precise(student_feature)) - unit(precise(teacher_feature.detach()))
    return masked_mean(difference.square().mean(-1), mask=mask, total=total)


def attention_map_loss(
    student_attention: Float[Tensor, "batch heads tokens tokens"],
    teacher_attention: Float[Tensor, "batch heads tokens tokens"],
    *,
    tokens: Bool[Tensor, "batch tokens"] | None = None,
    mask: Bool[Tensor, " batch"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Mean squared difference of attention matrices, head by head.

    .. math:: \frac{1}{N H} \sum_i \frac{1}{T_i^2} \sum_h \sum_{t, u} (A^S_{ihtu} - A^T_{ihtu})^2

    Args:
        student_attention: (batch, heads, tokens, tokens), a row for each query; the gradient goes here.
        teacher_attention: the same shape; a constant of the loss, which gives it no gradient.
        tokens: (batch, tokens), which tokens are real, the :math:`T_i` of a sample; rows and columns of the others
            are left out. None means all.
        mask: (batch,), which samples count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar, in float32 or better: the mean over heads and pairs of real tokens within a sample, then over samples.

    Scale:
        0 at equality; of rows that are probabilities at most 2 / tokens, so that weights far above 1 are usual. A
        sample without real tokens is 0.

    Example:
        >>> import torch
        >>> attention_map_loss(torch.eye(2)[None, None], torch.full((1, 1, 2, 2), 0.5))
        tensor(0.2500)

    References:
        Jiao et al.: TinyBERT, Findings of EMNLP 2020 (arXiv:1909.10351), section 3.1.
    """
    squared = (precise(student_attention) - precise(teacher_attention.detach())).square().mean(1)
    if tokens is None:
        return masked_mean(squared.mean((1, 2)), mask=mask, total=total)
    real = tokens[:, :, None] & tokens[:, None, :]
    kept = torch.where(real, squared, 0.0).sum((1, 2))
    return masked_mean(kept / real.sum((1, 2)).clamp_min(1), mask=mask, total=total)


def self_relation_loss(
    student_vectors: Float[Tensor, "batch tokens student_channels"],
    teacher_vectors: Float[Tensor, "batch tokens teacher_channels"],
    *,
    heads: int,
    tokens: Bool[Tensor, "batch tokens"] | None = None,
    mask: Bool[Tensor, " batch"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Divergence of how the tokens of a sample relate to each other, by their queries, their keys or their values.

    .. math:: \frac{1}{N} \sum_i \frac{1}{A T_i} \sum_{a, t} \mathrm{KL}(R^T_{iat} \| R^S_{iat}), \quad
        R_{ia} = \mathrm{softmax}\left(\frac{x_{ia} x_{ia}^\top}{\sqrt{d}}\right)

    with the channels cut into A heads of d channels, whatever heads the network itself has.

    Args:
        student_vectors: (batch, tokens, channels), queries, keys or values; the gradient goes here.
        teacher_vectors: the same ones, with their own channels; a constant of the loss, which gives it no gradient.
        heads: A, which divides the channels of both.
        tokens: (batch, tokens), which tokens are real, the :math:`T_i` of a sample; the others are related to nothing.
            None means all.
        mask: (batch,), which samples count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar, in float32 or better: summed over a row, the mean over heads and real tokens of a sample, then over
        samples.

    Scale:
        0 where the inner products are equal, otherwise positive and unbounded, in nats. A sample without real tokens
        is 0.

    Example:
        >>> import torch
        >>> student, teacher = torch.zeros(1, 2, 1), torch.tensor([[[0.0], [1.0481470]]])
        >>> self_relation_loss(student, teacher, heads=1)  # the second row is 1/4 and 3/4
        tensor(0.0654)

    References:
        Wang et al.: MiniLMv2, Findings of ACL 2021 (arXiv:2012.15828), section 3.1.
    """
    scores = [_related(vectors, heads, tokens) for vectors in (student_vectors, teacher_vectors.detach())]
    divergence = kl_divergence(scores[0], scores[1]).mean(1)
    if tokens is None:
        return masked_mean(divergence.mean(1), mask=mask, total=total)
    kept = torch.where(tokens, divergence, 0.0).sum(1)
    return masked_mean(kept / tokens.sum(1).clamp_min(1), mask=mask, total=total)


def _related(vectors: Tensor, heads: int, tokens: Tensor | None) -> Float[Tensor, "batch heads tokens tokens"]:
    """Scaled inner products; those with tokens that are not real have no share in a softmax."""
    split = precise(vectors).unflatten(2, (heads, -1)).transpose(1, 2)
    scores = products(split, split) / split.shape[-1] ** 0.5
    if tokens is None:
        return scores
    return scores.masked_fill(~tokens[:, None, None, :], torch.finfo(scores.dtype).min)
