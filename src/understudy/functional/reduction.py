"""The one way in which values of single positions become a loss."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from understudy.functional.geometry import precise


def masked_mean(
    values: Float[Tensor, "*positions"],
    *,
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Mean over the positions that count: :math:`\sum_{i \in M} v_i / |M|`.

    Args:
        values: one value per position.
        mask: which positions count; None means all.
        total: divide by this instead of by the number of positions that count here. When several micro-batches
            make one step, it is their average count, which may be below one, and the mean of the parts is the
            mean of the whole.

    Returns:
        A scalar. Zero, still connected to ``values``, when no position counts.

    Example:
        >>> masked_mean(torch.tensor([1.0, 2.0, 9.0]), mask=torch.tensor([True, True, False]))
        tensor(1.5000)
    """
    if mask is None and total is None and values.numel() > 0:
        return values.mean()
    if mask is not None:
        values = torch.where(mask, values, 0.0)
    if total is None:
        total = values.new_tensor(values.numel()) if mask is None else mask.sum().to(values.dtype)
    return values.sum() / positive(total)


def positive(total: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """A count to divide by: itself, or one where it is zero, so that a sum over nothing stays zero.

    Args:
        total: a number of positions; an average of numbers may lie between zero and one.
    """
    return torch.where(total > 0, total, 1.0)


def connected_zero(*tensors: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """The value of a loss about nothing: 0, with a gradient of 0 to everything that it might have been about.

    Args:
        tensors: those, parameters too: data-parallel training waits for a gradient of each.
    """
    return torch.stack([precise(tensor).sum() * 0.0 for tensor in tensors]).sum()
