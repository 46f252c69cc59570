"""Divergences between the class distributions of a student and a teacher, and between their logits."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from understudy.functional.geometry import precise
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
    student = F.log_softmax(precise(student_logits) / temperature, dim=-1)
    teacher = F.log_softmax(precise(teacher_logits) / temperature, dim=-1)
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


def reverse_kl_loss(
    student_logits: Float[Tensor, "*positions classes"],
    teacher_logits: Float[Tensor, "*positions classes"],
    *,
    temperature: float = 1.0,
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Distillation by the reverse divergence: :math:`\tau^2 \, \mathrm{KL}(p^S \| p^T)`, averaged over positions.

    Expected under the student: it is fined for what the teacher finds unlikely, not for what it leaves out, so that
    a small student settles on some of the teacher's modes instead of spreading over all of them.

    Args:
        student_logits: (..., classes), unnormalised; the gradient goes here.
        teacher_logits: the same shape; a constant of the loss, which gives it no gradient.
        temperature: :math:`\tau > 0` divides both logits.
        mask: which positions count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar.

    Scale:
        Summed over classes, averaged over the positions that count, in nats times :math:`\tau^2`. 0 at equality,
        otherwise positive and unbounded.

    Example:
        >>> student = torch.tensor([[0.0, 0.0]])
        >>> teacher = torch.tensor([[0.0, 1.0986123]])  # probabilities 1/4 and 3/4
        >>> reverse_kl_loss(student, teacher)
        tensor(0.1438)

    References:
        Gu, Dong, Wei, Huang: MiniLLM, ICLR 2024 (arXiv:2306.08543), eq. 1.
    """
    divergence = kl_divergence(teacher_logits.detach(), student_logits, temperature=temperature)
    return temperature**2 * masked_mean(divergence, mask=mask, total=total)


def jensen_shannon_loss(
    student_logits: Float[Tensor, "*positions classes"],
    teacher_logits: Float[Tensor, "*positions classes"],
    *,
    beta: float = 0.5,
    temperature: float = 1.0,
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Generalised Jensen-Shannon divergence, averaged over positions.

    .. math:: \tau^2 \left(\beta \, \mathrm{KL}(p^T \| m) + (1 - \beta) \, \mathrm{KL}(p^S \| m)\right), \quad
        m = \beta p^T + (1 - \beta) p^S

    Computed in log space.

    Args:
        student_logits: (..., classes), unnormalised; the gradient goes here.
        teacher_logits: the same shape; a constant of the loss, which gives it no gradient.
        beta: the teacher's share of the mixture, in (0, 1).
        temperature: :math:`\tau > 0` divides both logits.
        mask: which positions count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar.

    Scale:
        Summed over classes, averaged over the positions that count, in nats times :math:`\tau^2`. 0 at equality, at
        most :math:`\tau^2 (-\beta \log \beta - (1 - \beta) \log(1 - \beta))`. Divided by :math:`\beta` it tends to
        the divergence of the soft targets for :math:`\beta \to 0`; divided by :math:`1 - \beta` to the reverse one for
        :math:`\beta \to 1`.

    Example:
        >>> student = torch.tensor([[0.0, 0.0]])
        >>> teacher = torch.tensor([[0.0, 1.0986123]])  # probabilities 1/4 and 3/4
        >>> jensen_shannon_loss(student, teacher)
        tensor(0.0338)

    References:
        Agarwal et al.: On-Policy Distillation of Language Models, ICLR 2024 (arXiv:2306.13649), section 2.
    """
    student = F.log_softmax(precise(student_logits) / temperature, dim=-1)
    teacher = F.log_softmax(precise(teacher_logits.detach()) / temperature, dim=-1)
    mixture = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    of_teacher = (teacher.exp() * (teacher - mixture)).sum(-1)
    of_student = (student.exp() * (student - mixture)).sum(-1)
    divergence = beta * of_teacher + (1.0 - beta) * of_student
    return temperature**2 * masked_mean(divergence, mask=mask, total=total)


def skew_kl_loss(
    student_logits: Float[Tensor, "*positions classes"],
    teacher_logits: Float[Tensor, "*positions classes"],
    *,
    beta: float = 0.1,
    temperature: float = 1.0,
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Distillation by the skewed divergence, averaged over positions.

    .. math:: \tau^2 \, \mathrm{KL}(p^T \| m), \quad m = \beta p^T + (1 - \beta) p^S

    The teacher's share of the mixture bounds the loss where the student finds all but impossible what the teacher
    finds likely. Computed in log space.

    Args:
        student_logits: (..., classes), unnormalised; the gradient goes here.
        teacher_logits: the same shape; a constant of the loss, which gives it no gradient.
        beta: the teacher's share of the mixture, in (0, 1); the paper's :math:`\alpha`.
        temperature: :math:`\tau > 0` divides both logits.
        mask: which positions count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar.

    Scale:
        Summed over classes, averaged over the positions that count, in nats times :math:`\tau^2`. 0 at equality, at
        most :math:`-\tau^2 \log \beta`; it tends to the divergence of the soft targets for :math:`\beta \to 0`.

    Example:
        >>> student = torch.tensor([[0.0, 0.0]])
        >>> teacher = torch.tensor([[0.0, 1.0986123]])  # probabilities 1/4 and 3/4
        >>> skew_kl_loss(student, teacher)
        tensor(0.1070)

    References:
        Ko, Kim, Chen, Yun: DistiLLM, ICML 2024 (arXiv:2402.03898), eq. 3.
    """
    student = F.log_softmax(precise(student_logits) / temperature, dim=-1)
    teacher = F.log_softmax(precise(teacher_logits.detach()) / temperature, dim=-1)
    mixture = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    divergence = (teacher.exp() * (teacher - mixture)).sum(-1)
    return temperature**2 * masked_mean(divergence, mask=mask, total=total)


def total_variation_loss(
    student_logits: Float[Tensor, "*positions classes"],
    teacher_logits: Float[Tensor, "*positions classes"],
    *,
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Total variation distance, :math:`\frac{1}{2} \sum_k |p^S_k - p^T_k|`, averaged over positions.

    Args:
        student_logits: (..., classes), unnormalised; the gradient goes here.
        teacher_logits: the same shape; a constant of the loss, which gives it no gradient.
        mask: which positions count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar.

    Scale:
        0 at equality, 1 where no class is likely to both: the probability that would have to be moved. Symmetric.
        At most the square root of half of either divergence in nats (Pinsker's inequality).

    Example:
        >>> student = torch.tensor([[0.0, 0.0]])
        >>> teacher = torch.tensor([[0.0, 1.0986123]])  # probabilities 1/4 and 3/4
        >>> total_variation_loss(student, teacher)
        tensor(0.2500)

    References:
        Wen, Li, Du, Mou: f-Divergence Minimization for Sequence-Level Knowledge Distillation, ACL 2023
        (arXiv:2307.15190).
    """
    student = precise(student_logits).softmax(-1)
    teacher = precise(teacher_logits.detach()).softmax(-1)
    return masked_mean((student - teacher).abs().sum(-1) / 2, mask=mask, total=total)


def logit_mse_loss(
    student_logits: Float[Tensor, "*positions classes"],
    teacher_logits: Float[Tensor, "*positions classes"],
    *,
    centred: bool = False,
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Mean squared difference of the logits, :math:`\frac{1}{K} \| z^S - z^T \|^2`, averaged over positions.

    Args:
        student_logits: (..., classes), unnormalised; the gradient goes here.
        teacher_logits: the same shape; a constant of the loss, which gives it no gradient.
        centred: whether each position's mean over classes is subtracted from both first.
        mask: which positions count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar: the mean over K classes and over the positions that count.

    Scale:
        0 at equality; the square of the logits' unit. Centred, half of it is the limit of :func:`soft_target_loss`
        for :math:`\tau \to \infty`. Ba and Caruana sum over classes and halve: their loss is this one times K / 2.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 0.0]])
        >>> logit_mse_loss(student, teacher), logit_mse_loss(student, teacher, centred=True)
        (tensor(5.), tensor(1.))

    References:
        Ba, Caruana: Do Deep Nets Really Need to be Deep?, NIPS 2014 (arXiv:1312.6184), eq. 1. Kim et al.: Comparing
        Kullback-Leibler Divergence and Mean Squared Error Loss in Knowledge Distillation, IJCAI 2021
        (arXiv:2105.08919), for the limit.
    """
    difference = precise(student_logits) - precise(teacher_logits.detach())
    if centred:
        difference = difference - difference.mean(-1, keepdim=True)
    return masked_mean(difference.square().mean(-1), mask=mask, total=total)
