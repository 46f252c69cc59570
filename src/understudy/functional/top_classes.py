"""Distributions of which only the likeliest classes are known one by one; all others are one category, the tail."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from understudy.functional.geometry import precise


def tail_logit(
    logits: Float[Tensor, "*positions classes"],
    kept: Int[Tensor, "*positions kept"],
    *,
    temperature: float = 1.0,
) -> Float[Tensor, "*positions"]:
    r"""One logit in place of those of all classes that are not kept, which leaves the probabilities as they are.

    .. math:: t = \tau \log \sum_{k \notin \text{kept}} e^{z_k / \tau}, \qquad
        \frac{e^{t / \tau}}{e^{t / \tau} + \sum_{k \in \text{kept}} e^{z_k / \tau}}
        = \sum_{k \notin \text{kept}} \mathrm{softmax}(z / \tau)_k

    Args:
        logits: (..., classes), unnormalised.
        kept: int64, the classes that stay as they are, different ones for each position, fewer than there are.
        temperature: :math:`\tau > 0`. The merged logit belongs to this temperature and to no other.

    Returns:
        One logit per position, in float32 or better.

    Scale:
        That of the logits.

    Example:
        >>> tail_logit(torch.tensor([[3.0, 0.0, 0.0]]), torch.tensor([[0]]))
        tensor([0.6931])
    """
    rest = precise(logits).scatter(-1, kept, -math.inf)
    return temperature * (rest / temperature).logsumexp(-1)


def merged_logits(
    logits: Float[Tensor, "*positions classes"],
    kept: Int[Tensor, "*positions kept"],
    *,
    temperature: float = 1.0,
) -> Float[Tensor, "*positions merged"]:
    r"""The logits of some classes, and last the one of all others together: k + 1 categories instead of K.

    Every divergence of two distributions that are merged alike, at the same temperature, is at most that of the
    distributions themselves, and is 0 only where the kept classes and the tail are equally likely to both. Leaving the
    tail out and scaling the rest up instead compares distributions that neither network has.

    Args:
        logits: (..., classes), unnormalised.
        kept: int64 (..., k), see :func:`tail_logit`.
        temperature: see :func:`tail_logit`.

    Returns:
        (..., k + 1), in float32 or better.

    Scale:
        That of the logits.

    Example:
        >>> merged_logits(torch.tensor([[3.0, 0.0, 0.0]]), torch.tensor([[0]]))
        tensor([[3.0000, 0.6931]])
    """
    tail = tail_logit(logits, kept, temperature=temperature)
    return torch.cat([precise(logits).gather(-1, kept), tail.unsqueeze(-1)], -1)


def spread_logits(
    values: Float[Tensor, "*positions kept"],
    kept: Int[Tensor, "*positions kept"],
    tail: Float[Tensor, "*positions"],
    *,
    classes: int,
) -> Float[Tensor, "*positions classes"]:
    r"""Logits of all classes, where those that were not kept share the tail equally: a look at what is not known.

    Args:
        values: (..., k), the logits of the kept classes.
        kept: int64 (..., k), which they are.
        tail: the logit of all others together at temperature 1.
        classes: how many there are.

    Returns:
        (..., classes), in float32 or better.

    Scale:
        That of the logits.

    Example:
        >>> spread_logits(torch.tensor([[3.0]]), torch.tensor([[0]]), torch.tensor([math.log(2.0)]), classes=3)
        tensor([[3., 0., 0.]])
    """
    each = precise(tail) - math.log(classes - kept.shape[-1])
    dense = each.unsqueeze(-1).expand(*kept.shape[:-1], classes)
    return dense.scatter(-1, kept, precise(values))
