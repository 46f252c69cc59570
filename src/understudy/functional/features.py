"""Losses between intermediate features."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from understudy.functional.reduction import masked_mean


def hint_loss(
    student_feature: Float[Tensor, "batch *feature"],
    teacher_feature: Float[Tensor, "batch *feature"],
    *,
    mask: Bool[Tensor, " batch"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Mean squared difference of two features of one shape: :math:`\frac{1}{N} \sum_i (s_i - t_i)^2`.

    Args:
        student_feature: the student's feature, already adapted to the teacher's shape; the gradient goes here.
        teacher_feature: the same shape; a constant of the loss, which gives it no gradient.
        mask: (batch,), which rows count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar: the mean over all elements of the rows that count, in float32 or better.

    Scale:
        0 at equality; the square of the features' own unit, so that a weight tuned for one layer does not carry
        over to another. The paper sums over elements and halves: its loss is this one times ``numel / 2``.

    Example:
        >>> hint_loss(torch.zeros(1, 4), torch.full((1, 4), 2.0))
        tensor(4.)

    References:
        Romero et al.: FitNets, 2015 (arXiv:1412.6550), eq. 3.
    """
    dtype = torch.promote_types(student_feature.dtype, torch.float32)
    squared = (student_feature.to(dtype) - teacher_feature.detach().to(dtype)).square()
    if mask is None and total is None:
        return squared.mean()
    return masked_mean(squared.unsqueeze(-1).flatten(1).mean(-1), mask=mask, total=total)
