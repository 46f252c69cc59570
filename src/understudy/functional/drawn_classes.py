"""Distributions of which only some classes are known, that were drawn by their probability."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from understudy.functional.geometry import precise
from understudy.functional.reduction import masked_mean


def drawn_target_loss(
    student_logits: Float[Tensor, "*positions classes"],
    teacher_logarithms: Float[Tensor, "*positions draws"],
    *,
    drawn: Int[Tensor, "*positions draws"],
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Soft targets of which only draws are known: an estimate of :math:`\mathrm{KL}(p^T \| p^S)` without bias.

    .. math:: \frac{1}{N} \sum_i \frac{1}{n} \sum_{j=1}^n \big(\log p^T_{i,k_{ij}} - \log p^S_{i,k_{ij}}\big),
        \quad k_{ij} \sim p^T_i

    Value and gradient are on average over the draws those of the divergence itself, of however few classes: the
    likeliest classes of a distribution alone, even with a tail, say nothing of how the rest is shared out.

    Args:
        student_logits: (..., classes), unnormalised; the gradient goes here.
        teacher_logarithms: (..., n), the logarithm of the teacher's probability of each draw; a constant of the loss.
        drawn: int64 (..., n), the classes that were drawn, with repetition.
        mask: which positions count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar in nats.

    Scale:
        0 at equality, and on average not below it; of few draws it may be.

    Example:
        >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([0.25, 0.75]).log()
        >>> drawn = torch.tensor([[1, 1, 0, 1]])
        >>> drawn_target_loss(student, teacher[drawn], drawn=drawn)
        tensor(0.1308)

    References:
        Anshumann et al.: Sparse Logit Sampling: Accelerating Knowledge Distillation in LLMs, ACL 2025
        (arXiv:2503.16870), with the teacher's own distribution as the proposal.
    """
    logits = precise(student_logits)
    own = logits.gather(-1, drawn) - logits.logsumexp(-1, keepdim=True)
    return masked_mean((precise(teacher_logarithms).detach() - own).mean(-1), mask=mask, total=total)


def drawn_logits(
    logarithms: Float[Tensor, "*positions draws"],
    drawn: Int[Tensor, "*positions draws"],
    *,
    classes: int,
) -> Float[Tensor, "*positions classes"]:
    r"""Logits of all classes, where those that were not drawn share what is left equally: a look at what is not known.

    Args:
        logarithms: (..., n), the logarithm of the probability of each draw.
        drawn: int64 (..., n), which classes they are; one may stand there several times.
        classes: how many there are.

    Returns:
        (..., classes), in float32 or better.

    Scale:
        That of the logarithms: the probabilities add up to 1.

    Example:
        >>> drawn_logits(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[2, 2]]), classes=3).exp()
        tensor([[0.2500, 0.2500, 0.5000]])
    """
    known = precise(logarithms)
    dense = known.new_full((*drawn.shape[:-1], classes), -math.inf).scatter(-1, drawn, known)
    others = dense.isinf()
    left = (1.0 - dense.exp().sum(-1, keepdim=True)).clamp_min(torch.finfo(dense.dtype).tiny)
    return torch.where(others, (left / others.sum(-1, keepdim=True)).log(), dense)
