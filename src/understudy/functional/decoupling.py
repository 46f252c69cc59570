"""Soft targets that treat the true class apart, the scale of the logits apart, or every sample by its difficulty."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from understudy.functional.divergences import kl_divergence
from understudy.functional.geometry import precise
from understudy.functional.reduction import masked_mean


def decoupled_loss(
    student_logits: Float[Tensor, "*positions classes"],
    teacher_logits: Float[Tensor, "*positions classes"],
    *,
    targets: Int[Tensor, "*positions"],
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    ignore_index: int = -100,
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Soft targets in two parts: is it the true class, and which of the others is it.

    .. math:: \tau^2 \left(\alpha \, \mathrm{KL}(b^T \| b^S) + \beta \, \mathrm{KL}(\hat p^T \| \hat p^S)\right), \quad
        b = (p_y, 1 - p_y), \quad \hat p_k = p_k / (1 - p_y) \text{ for } k \ne y

    Computed in log space: nothing is lost where a network is sure of the true class.

    Args:
        student_logits: (..., classes), at least two classes, unnormalised; the gradient goes here.
        teacher_logits: the same shape; a constant of the loss, which gives it no gradient.
        targets: y, the class index per position; ``ignore_index`` where there is no label.
        alpha: :math:`\alpha`, weight of the true class against all others.
        beta: :math:`\beta`, weight of the others among each other.
        temperature: :math:`\tau > 0` divides both logits.
        ignore_index: the target of a position that has no label and does not count.
        mask: which of the labelled positions count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar: the mean over the labelled positions that count.

    Scale:
        0 at equality, otherwise positive, in nats times :math:`\tau^2`. With :math:`\beta = 1 - p^T_y` and
        :math:`\alpha = 1` it would be the loss of the soft targets.

    Example:
        >>> student = torch.tensor([[0.0, 0.0, 0.0]])
        >>> teacher = torch.tensor([[1.3862944, 0.0, 0.0]])  # probabilities 2/3 and two times 1/6
        >>> decoupled_loss(student, teacher, targets=torch.tensor([0]), temperature=1.0)
        tensor(0.2310)

    References:
        Zhao, Cui, Song, Qiu, Liang: Decoupled Knowledge Distillation, CVPR 2022 (arXiv:2203.08679), eq. 7.
    """
    counts = _labelled(targets, ignore_index, mask)
    is_target = _one_hot(student_logits, targets, counts)
    student = F.log_softmax(precise(student_logits) / temperature, dim=-1)
    teacher = F.log_softmax(precise(teacher_logits.detach()) / temperature, dim=-1)
    of_target = _divergence(_against_all(student, is_target), _against_all(teacher, is_target))
    of_others = _divergence(_among_others(student, is_target), _among_others(teacher, is_target))
    divergence = alpha * of_target + beta * of_others
    return temperature**2 * masked_mean(divergence, mask=counts, total=total)


def logit_standardisation_loss(
    student_logits: Float[Tensor, "*positions classes"],
    teacher_logits: Float[Tensor, "*positions classes"],
    *,
    temperature: float = 2.0,
    eps: float = 1e-7,
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Soft targets of standardised logits: :math:`\tau^2 \, \mathrm{KL}(p^T \| p^S)`, averaged over positions.

    .. math:: p = \mathrm{softmax}\left(\frac{z - \bar z}{\tau \, (\sigma(z) + \epsilon)}\right), \quad
        \sigma(z)^2 = \frac{1}{K} \sum_k (z_k - \bar z)^2

    Args:
        student_logits: (..., classes), unnormalised; the gradient goes here.
        teacher_logits: the same shape; a constant of the loss, which gives it no gradient.
        temperature: :math:`\tau > 0`, the base temperature, in deviations of the logits.
        eps: :math:`\epsilon`, for a position whose logits are all equal. It stays finite, with a gradient of
            :math:`1 / \epsilon`: a student should not begin with a head of zeros.
        mask: which positions count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar.

    Scale:
        Summed over classes, averaged over the positions that count, in nats times :math:`\tau^2`. 0 at equality,
        and wherever the student's logits are the teacher's times a positive factor plus a constant.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[3.0, 1.0, 2.0]])
        >>> logit_standardisation_loss(student, teacher), logit_standardisation_loss(10 * student + 5, teacher)
        (tensor(1.8844), tensor(1.8844))

    References:
        Sun, Ren, Li, Wang, Cao: Logit Standardization in Knowledge Distillation, CVPR 2024 (arXiv:2403.01427),
        algorithms 1 and 2.
    """
    student = _standardised(precise(student_logits), eps)
    teacher = _standardised(precise(teacher_logits.detach()), eps)
    divergence = kl_divergence(student, teacher, temperature=temperature)
    return temperature**2 * masked_mean(divergence, mask=mask, total=total)


def normalised_kd_loss(
    student_logits: Float[Tensor, "*positions classes"],
    teacher_logits: Float[Tensor, "*positions classes"],
    *,
    targets: Int[Tensor, "*positions"],
    gamma: float = 1.5,
    temperature: float = 1.0,
    ignore_index: int = -100,
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Cross-entropy weighted by the teacher's trust in the label, and soft targets of the other classes.

    .. math:: -p^T_y \log p^S_y - \gamma \tau^2 \sum_{k \ne y} \hat p^T_k \log \hat p^S_k, \quad
        \hat p = \mathrm{softmax}(z_{k \ne y} / \tau)

    Args:
        student_logits: (..., classes), at least two classes, unnormalised; the gradient goes here.
        teacher_logits: the same shape; a constant of the loss, which gives it no gradient.
        targets: y, the class index per position; ``ignore_index`` where there is no label.
        gamma: :math:`\gamma`, weight of the other classes.
        temperature: :math:`\tau > 0` divides both logits of the other classes; the first part has none.
        ignore_index: the target of a position that has no label and does not count.
        mask: which of the labelled positions count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar: the mean over the labelled positions that count.

    Scale:
        Nats, never below 0. Two cross-entropies: at equality not 0 but :math:`-p^T_y \log p^T_y` and
        :math:`\gamma \tau^2` times the entropy of the teacher's other classes. The first part is least for a student
        that is sure of the label, whatever the teacher thinks.

    Example:
        >>> student = torch.tensor([[0.0, 0.0, 0.0]])
        >>> teacher = torch.tensor([[1.3862944, 0.0, 0.0]])  # probabilities 2/3 and two times 1/6
        >>> normalised_kd_loss(student, teacher, targets=torch.tensor([0]))  # 2/3 log 3 + 1.5 log 2
        tensor(1.7721)

    References:
        Yang et al.: From Knowledge Distillation to Self-Knowledge Distillation, ICCV 2023 (arXiv:2303.13005).
    """
    counts = _labelled(targets, ignore_index, mask)
    is_target = _one_hot(student_logits, targets, counts)
    student, teacher = precise(student_logits), precise(teacher_logits.detach())
    trust = teacher.softmax(-1).masked_fill(~is_target, 0.0)
    of_target = -(trust * F.log_softmax(student, dim=-1)).sum(-1)
    others = _among_others(teacher / temperature, is_target).exp() * _among_others(student / temperature, is_target)
    value = of_target - gamma * temperature**2 * others.sum(-1)
    return masked_mean(value, mask=counts, total=total)


def weighted_soft_labels_loss(
    student_logits: Float[Tensor, "*positions classes"],
    teacher_logits: Float[Tensor, "*positions classes"],
    *,
    targets: Int[Tensor, "*positions"],
    temperature: float = 2.0,
    eps: float = 1e-7,
    ignore_index: int = -100,
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Soft targets, each position weighted by how much the student has still to learn about its label.

    .. math:: \tau^2 \, w \, \mathrm{KL}(p^T \| p^S), \quad w = 1 - \exp(-c^S / (c^T + \epsilon))

    with the cross-entropies :math:`c = -\log \mathrm{softmax}(z)_y` at temperature 1. The weight is a constant of
    the loss.

    Args:
        student_logits: (..., classes), unnormalised; the gradient goes here, though not through the weight.
        teacher_logits: the same shape; a constant of the loss, which gives it no gradient.
        targets: y, the class index per position; ``ignore_index`` where there is no label.
        temperature: :math:`\tau > 0` divides both logits in the divergence.
        eps: :math:`\epsilon`, for a teacher that is quite sure of the label.
        ignore_index: the target of a position that has no label and does not count.
        mask: which of the labelled positions count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar: the mean over the labelled positions that count; the weights are no divisor.

    Scale:
        0 at equality, otherwise between 0 and :func:`soft_target_loss` of the same positions: 1 - 1/e of it where the
        student is as good as the teacher, nearer to 0 where it is better, nearer to all of it where it is worse.

    Example:
        >>> student = torch.tensor([[0.0, 0.0]])
        >>> teacher = torch.tensor([[0.0, 1.0986123]])  # probabilities 1/4 and 3/4
        >>> weighted_soft_labels_loss(student, teacher, targets=torch.tensor([1]), temperature=1.0)
        tensor(0.1191)

    References:
        Zhou et al.: Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective, ICLR 2021
        (arXiv:2102.00650).
    """
    counts = _labelled(targets, ignore_index, mask)
    index = targets.masked_fill(~counts, 0).unsqueeze(-1)
    of_student, of_teacher = (
        -F.log_softmax(precise(logits.detach()), dim=-1).gather(-1, index).squeeze(-1)
        for logits in (student_logits, teacher_logits)
    )
    weight = -torch.expm1(-of_student / (of_teacher + eps))
    divergence = kl_divergence(student_logits, teacher_logits.detach(), temperature=temperature)
    return temperature**2 * masked_mean(weight * divergence, mask=counts, total=total)


def _standardised(logits: Tensor, eps: float) -> Tensor:
    deviation = logits.std(-1, correction=0, keepdim=True)
    return (logits - logits.mean(-1, keepdim=True)) / (deviation + eps)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL of log probabilities."""
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)


def _labelled(targets: Tensor, ignore_index: int, mask: Tensor | None) -> Tensor:
    labelled = targets != ignore_index
    return labelled if mask is None else labelled & mask


def _one_hot(logits: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """Bool, shape of the logits: the true class; the first one where there is none, which then does not count."""
    index = targets.masked_fill(~counts, 0).unsqueeze(-1)
    return torch.zeros_like(logits, dtype=torch.bool).scatter(-1, index, True)


def _against_all(log_probabilities: Tensor, is_target: Tensor) -> Tensor:
    """(..., 2): log probability of the true class, and of all others together."""
    target = log_probabilities.masked_fill(~is_target, -math.inf).logsumexp(-1)
    others = log_probabilities.masked_fill(is_target, -math.inf).logsumexp(-1)
    return torch.stack([target, others], dim=-1)


def _among_others(scores: Tensor, is_target: Tensor) -> Tensor:
    """Log probabilities among the classes that are not the true one, which itself gets the value 0."""
    return F.log_softmax(scores.masked_fill(is_target, -math.inf), dim=-1).masked_fill(is_target, 0.0)
