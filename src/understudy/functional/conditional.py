"""Losses that choose between a teacher and the labels, position by position."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from understudy.functional.divergences import kl_divergence
from understudy.functional.geometry import precise
from understudy.functional.reduction import masked_mean


def conditional_target_loss(
    student_logits: Float[Tensor, "*positions classes"],
    teacher_logits: Float[Tensor, "*positions classes"],
    *,
    targets: Int[Tensor, "*positions"] | None = None,
    temperature: float = 1.0,
    confidence: float = 0.0,
    ignore_index: int = -100,
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""The teacher's probabilities where the teacher is right, the label where it is wrong, averaged over positions.

    .. math:: \ell_i = \begin{cases} \tau^2 \, \mathrm{KL}(p^T_i \| p^S_i) & \arg\max_k z^T_{ik} = y_i \\
        -\log \mathrm{softmax}(z^S_i)_{y_i} & \arg\max_k z^T_{ik} \ne y_i \end{cases}, \quad
        p = \mathrm{softmax}(z / \tau)

    A position without a label has the divergence where the teacher's largest probability, at temperature 1, is at
    least the confidence, and 0 elsewhere.

    Args:
        student_logits: (..., classes), unnormalised; the gradient goes here.
        teacher_logits: the same shape; a constant of the loss, which gives it no gradient.
        targets: y, the class index per position, ``ignore_index`` where there is no label; None: nowhere is one.
        temperature: :math:`\tau > 0` divides both logits in the divergence.
        confidence: the least of the largest probabilities of a teacher that is believed without a label; 0: always.
        ignore_index: the target of a position that has no label.
        mask: which positions count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar: the mean over all positions that count, those too that the teacher is not sure enough about.

    Scale:
        Nats, summed over classes. At equality 0, except where the teacher is wrong: there it is the cross-entropy with
        the label, which is 0 for a student that is sure of it.

    Example:
        >>> student, teacher = torch.zeros(2, 2), torch.tensor([[0.0, 1.0986123]]).expand(2, 2)  # 1/4 and 3/4
        >>> conditional_target_loss(student[:1], teacher[:1], targets=torch.tensor([1]))
        tensor(0.1308)
        >>> conditional_target_loss(student[:1], teacher[:1], targets=torch.tensor([0]))
        tensor(0.6931)
        >>> conditional_target_loss(student, teacher, targets=torch.tensor([1, -100]), confidence=0.9)
        tensor(0.0654)

    References:
        Meng, Li, Zhao, Gong: Conditional Teacher-Student Learning, ICASSP 2019 (arXiv:1904.12399).
    """
    teacher = precise(teacher_logits.detach())
    divergence = temperature**2 * kl_divergence(student_logits, teacher, temperature=temperature)
    values = torch.where(teacher.softmax(-1).amax(-1) >= confidence, divergence, 0.0)
    if targets is not None:
        log_probabilities = precise(student_logits).log_softmax(-1)
        of_label = -log_probabilities.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        chosen = torch.where(teacher.argmax(-1) == targets, divergence, of_label)
        values = torch.where(targets == ignore_index, values, chosen)
    return masked_mean(values, mask=mask, total=total)
