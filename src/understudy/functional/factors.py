"""Losses between factors, which small networks make of features."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor

from understudy.functional.geometry import precise, unit
from understudy.functional.reduction import masked_mean


def factor_transfer_loss(
    student_factor: Float[Tensor, "batch *factor"],
    teacher_factor: Float[Tensor, "batch *factor"],
    *,
    norm: float = 1.0,
    mask: Bool[Tensor, " batch"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Mean power of the difference of two factors of unit length.

    .. math:: \frac{1}{N D} \sum_{i=1}^N \sum_{j=1}^D
        \left| \frac{F^S_{ij}}{\|F^S_i\|_2} - \frac{F^T_{ij}}{\|F^T_i\|_2} \right|^p

    Args:
        student_factor: (batch, ...), D values per sample; the gradient goes here.
        teacher_factor: the same shape; a constant of the loss, which gives it no gradient.
        norm: :math:`p \ge 1`.
        mask: (batch,), which rows count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar, in float32 or better: the mean over all values of the rows that count.

    Scale:
        0 where both point the same way; no unit. With p = 2 at most 4/D, with p = 1 at most :math:`2 / \sqrt{D}`. The
        paper takes the p-norm itself, the authors' code this mean for p = 1. A factor of no length stays zero.

    Example:
        >>> import torch
        >>> factor_transfer_loss(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 0.5]]))
        tensor(1.)

    References:
        Kim, Park, Kwak: Paraphrasing Complex Network: Network Compression via Factor Transfer, NeurIPS 2018
        (arXiv:1802.04977), eq. 3.
    """
    student = unit(precise(student_factor).flatten(1))
    teacher = unit(precise(teacher_factor.detach()).flatten(1))
    return masked_mean((student - teacher).abs().pow(norm).mean(1), mask=mask, total=total)
