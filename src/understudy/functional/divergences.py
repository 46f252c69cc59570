"""Divergences between the class distributions of a student and a teacher."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from understudy.functional.reduction import masked_mean


def kl_divergence(
    student_logits: Float[Tensor, "*positions classes"],
    teacher_logits: Float[Tensor, "*positions classes"],
    *,
    temperature: float = 1.0,
) -> Float[Tensor, "*positions"]:
    r"""Kullback-Leibler divergence of the student from the teacher, per position.

    .. math:: \sum_k p^T_k (\log p^T_k - \log p^S_k), \quad p = \mathrm{softmax}(z / \tau)

    Computed in log space, in float32 or, for float64 logits, in float64.

    Args:
        student_logits: (..., classes), unnormalised and finite.
        teacher_logits: the same shape.
        temperature: :math:`\tau > 0` divides both logits.

    Returns:
        One value in nats for each position.

    Scale:
        0 where both distributions are equal, otherwise positive and unbounded. Unchanged when a constant is
        added to all logits of a position.

    Example:
        >>> student = torch.tensor([[0.0, 0.0]])
        >>> teacher = torch.tensor([[0.0, 1.0986123]])  # probabilities 1/4 and 3/4
        >>> kl_divergence(student, teacher)
        tensor([0.1308])

    References:
        Kullback, Leibler: On Information and Sufficiency, 1951, eq. 2.4.
    """
    dtype = torch.promote_types(student_logits.dtype, torch.float32)
    student = F.log_softmax(student_logits.to(dtype) / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits.to(dtype) / temperature, dim=-1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)


def soft_target_loss(
    student_logits: Float[Tensor, "*positions classes"],
    teacher_logits: Float[Tensor, "*positions classes"],
    *,
    temperature: float = 1.0,
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Distillation by soft targets: :math:`\tau^2 \, \mathrm{KL}(p^T \| p^S)`, averaged over positions.

    Summed over classes, averaged over the positions that count (never over classes), times :math:`\tau^2`, so
    that the size of the gradient hardly changes with the temperature.

    Args:
        student_logits: (..., classes), unnormalised; the gradient goes here.
        teacher_logits: the same shape; a constant of the loss, which gives it no gradient.
        temperature: :math:`\tau > 0`; the higher, the more the small probabilities count.
        mask: which positions count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar.

    Scale:
        0 at equality, otherwise positive. For :math:`\tau \to \infty` it tends to
        :math:`\frac{1}{2K} \sum_k (z^S_k - z^T_k)^2` of logits centred per position, with K classes.

    Example:
        >>> student = torch.tensor([[0.0, 0.0]])
        >>> teacher = torch.tensor([[0.0, 1.0986123]])
        >>> soft_target_loss(student, teacher, temperature=2.0)
        tensor(0.1454)

    References:
        Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015 (arXiv:1503.02531), section 2.
    """
    divergence = kl_divergence(student_logits, teacher_logits.detach(), temperature=temperature)
    return temperature**2 * masked_mean(divergence, mask=mask, total=total)
