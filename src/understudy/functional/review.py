"""Losses between maps at several resolutions of each."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from understudy.functional.geometry import precise
from understudy.functional.reduction import masked_mean

_GRIDS = 4, 2, 1


def hierarchical_context_loss(
    student_feature: Float[Tensor, "batch channels height width"],
    teacher_feature: Float[Tensor, "batch channels height width"],
    *,
    mask: Bool[Tensor, " batch"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Mean squared difference of two maps, and of their averages on ever coarser grids.

    .. math:: \frac{\sum_l 2^{-l} \, \mathrm{mse}(P_l s, P_l t)}{\sum_l 2^{-l}}

    where :math:`P_0` leaves a map as it is and :math:`P_1, P_2, \ldots` average it on those grids of 4×4, 2×2 and 1×1
    that are smaller than the map in height and in width.

    Args:
        student_feature: (batch, channels, height, width), already adapted to the teacher's shape; the gradient goes
            here.
        teacher_feature: the same shape; a constant of the loss, which gives it no gradient.
        mask: (batch,), which rows count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar, in float32 or better: the mean over elements and over the rows that count.

    Scale:
        0 at equality; the square of the features' own unit. A difference that is the same everywhere has the value of
        :func:`hint_loss`; one that averages out over the coarser grids has less.

    Example:
        >>> import torch
        >>> hierarchical_context_loss(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 2.0))
        tensor(4.)

    References:
        Chen, Liu, Zhao, Jia: Distilling Knowledge via Knowledge Review, CVPR 2021 (arXiv:2104.09044), section 3.4.
    """
    difference = precise(student_feature) - precise(teacher_feature.detach())
    value, weight, weights = difference.square().mean((1, 2, 3)), 1.0, 1.0
    for grid in _GRIDS:
        if grid < min(difference.shape[2:]):
            weight /= 2.0
            weights += weight
            # The average of a difference is the difference of the averages.
            value = value + weight * F.adaptive_avg_pool2d(difference, grid).square().mean((1, 2, 3))
    return masked_mean(value / weights, mask=mask, total=total)
