"""Losses on logits that are one yes or no for each class."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from understudy.functional.geometry import precise
from understudy.functional.reduction import masked_mean


def sigmoid_target_loss(
    student_logits: Float[Tensor, "*positions classes"],
    teacher_logits: Float[Tensor, "*positions classes"],
    *,
    temperature: float = 1.0,
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Soft targets of several labels: every class is a question of its own, answered by yes or no.

    .. math:: \tau^2 \sum_k \left(p^T_k \log \frac{p^T_k}{p^S_k} +
        (1 - p^T_k) \log \frac{1 - p^T_k}{1 - p^S_k}\right), \quad p = \sigma(z / \tau)

    Computed in log space, in float32 or, for float64 logits, in float64: finite however large the logits are.

    Args:
        student_logits: (..., classes), unnormalised and finite; the gradient goes here.
        teacher_logits: the same shape; a constant of the loss, which gives it no gradient.
        temperature: :math:`\tau > 0` divides both logits.
        mask: which positions count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar: summed over classes, the mean over the positions that count.

    Scale:
        0 at equality, otherwise positive, in nats times :math:`\tau^2`. For :math:`\tau \to \infty` it tends to
        :math:`\frac{1}{8} \sum_k (z^S_k - z^T_k)^2`. A constant on all logits changes it, unlike with a softmax.

    Example:
        >>> import torch
        >>> student = torch.tensor([[0.0, 0.0]])
        >>> teacher = torch.tensor([[0.0, 1.0986123]])  # probabilities 1/2 and 3/4
        >>> sigmoid_target_loss(student, teacher)
        tensor(0.1308)

    References:
        Yang et al.: Multi-Label Knowledge Distillation, ICCV 2023 (arXiv:2308.06453), the multi-label logits
        distillation.
    """
    student = precise(student_logits) / temperature
    teacher = precise(teacher_logits.detach()) / temperature
    of_yes, of_no = (
        F.kl_div(F.logsigmoid(sign * student), F.logsigmoid(sign * teacher), reduction="none", log_target=True)
        for sign in (1.0, -1.0)
    )
    return temperature**2 * masked_mean((of_yes + of_no).sum(-1), mask=mask, total=total)
