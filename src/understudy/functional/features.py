"""Losses between intermediate features."""

import torch
from jaxtyping import Float
from torch import Tensor


def hint_loss(
    student_feature: Float[Tensor, "batch *feature"],
    teacher_feature: Float[Tensor, "batch *feature"],
) -> Float[Tensor, ""]:
    r"""Mean squared difference of two features of one shape: :math:`\frac{1}{N} \sum_i (s_i - t_i)^2`.

    Args:
        student_feature: the student's feature, already adapted to the teacher's shape; the gradient goes here.
        teacher_feature: the same shape, detached.

    Returns:
        A scalar: the mean over all elements, in float32 or better.

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
    return (student_feature.to(dtype) - teacher_feature.to(dtype)).square().mean()
