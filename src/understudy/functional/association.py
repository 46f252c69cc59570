"""How far two series of numbers rise and fall together."""

import torch
from jaxtyping import Float
from torch import Tensor


def pearson_correlation(first: Float[Tensor, "*series count"], second: Float[Tensor, "*series count"]) -> Tensor:
    r"""The correlation of numbers: how near they are to a rising line.

    .. math:: \frac{\sum_i (x_i - \bar x)(y_i - \bar y)}{\sqrt{\sum_i (x_i - \bar x)^2 \sum_i (y_i - \bar y)^2}}

    Args:
        first: (..., count).
        second: the same shape.

    Returns:
        (...,), float64, from -1 to 1; 0 where one of the two never changes.

    Example:
        >>> round(float(pearson_correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 5.0, 7.0]))), 6)
        1.0
    """
    deviations = [values.double() - values.double().mean(-1, keepdim=True) for values in (first, second)]
    # Rounding leaves something of a constant, which is no change.
    least = [1e-12 * values.double().abs().amax(-1) * values.shape[-1] ** 0.5 for values in (first, second)]
    lengths = [torch.linalg.vector_norm(deviation, dim=-1) for deviation in deviations]
    change = (lengths[0] > least[0]) & (lengths[1] > least[1])
    product = (deviations[0] * deviations[1]).sum(-1) / (lengths[0] * lengths[1]).where(change, 1.0)
    return product.clamp(-1.0, 1.0).where(change, 0.0)


def spearman_correlation(first: Float[Tensor, "*series count"], second: Float[Tensor, "*series count"]) -> Tensor:
    """The correlation of ranks: how far two series order the same things alike. Equal numbers share their mean rank.

    Args:
        first: (..., count).
        second: the same shape.

    Returns:
        (...,), float64, from -1 to 1; 0 where one of the two never changes.

    Example:
        >>> round(float(spearman_correlation(torch.tensor([1.0, 2.0, 30.0]), torch.tensor([-5.0, 0.0, 0.1]))), 6)
        1.0

    References:
        Spearman: The Proof and Measurement of Association between Two Things, American Journal of Psychology 1904.
    """
    return pearson_correlation(_ranks(first), _ranks(second))


def _ranks(values: Tensor) -> Tensor:
    """Twice the mean rank of each value among its series, which is a whole number."""
    ordered = values.sort(-1).values.contiguous()
    before = torch.searchsorted(ordered, values.contiguous())
    return (before + torch.searchsorted(ordered, values.contiguous(), right=True)).double()
