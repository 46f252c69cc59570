"""Divergences of softened probabilities, with a temperature for each sample."""

from jaxtyping import Bool, Float
from torch import Tensor

from understudy.functional.divergences import kl_divergence
from understudy.functional.geometry import precise
from understudy.functional.reduction import masked_mean

_LEAST_MAXIMUM = 1e-3


def dynamic_temperature_loss(
    student_logits: Float[Tensor, "*positions classes"],
    teacher_logits: Float[Tensor, "*positions classes"],
    *,
    temperature: float = 4.0,
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Soft targets at two temperatures per position, which make both outputs equally sharp, averaged over positions.

    .. math:: \tau_S \tau_T \, \mathrm{KL}(\mathrm{softmax}(z^T / \tau_T) \| \mathrm{softmax}(z^S / \tau_S)),
        \quad \tau_S = \frac{2 y}{x + y} \tau, \quad \tau_T = \frac{2 x}{x + y} \tau, \quad
        x = \max_k z^T_k, \quad y = \max_k z^S_k

    Sharpness is :math:`\log \sum_k e^{z_k}`, of which the largest logit is the greatest part: the two quotients then
    have the same one. A largest logit below 1e-3, for which the paper's rule has no positive temperature, counts as
    1e-3, without a gradient through it.

    Args:
        student_logits: (..., classes), unnormalised; the gradient goes here, through the temperatures too.
        teacher_logits: the same shape; a constant of the loss, which gives it no gradient.
        temperature: :math:`\tau > 0`, the mean of the two temperatures of every position.
        mask: which positions count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar, in float32 or better.

    Scale:
        Summed over classes, averaged over the positions that count, in nats times the product of both temperatures. 0
        at equality, and where the student's logits are a positive multiple of the teacher's. Unlike the divergence
        itself it changes when a constant is added to all logits of a position.

    Example:
        >>> import torch
        >>> teacher = torch.tensor([[3.0, 0.0]])
        >>> dynamic_temperature_loss(teacher / 3, teacher), dynamic_temperature_loss(teacher.flip(-1), teacher)
        (tensor(0.), tensor(4.3003))

    References:
        Wei, Bai: Dynamic Temperature Knowledge Distillation, 2024 (arXiv:2404.12711), with the largest logits as in
        the authors' code.
    """
    student, teacher = precise(student_logits), precise(teacher_logits.detach())
    own, answer = (logits.amax(-1, keepdim=True).clamp_min(_LEAST_MAXIMUM) for logits in (student, teacher))
    of_student, of_teacher = (2.0 * temperature * largest / (own + answer) for largest in (own, answer))
    divergence = kl_divergence(student / of_student, teacher / of_teacher)
    return masked_mean((of_student * of_teacher).squeeze(-1) * divergence, mask=mask, total=total)
