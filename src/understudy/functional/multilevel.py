"""Losses on predictions as such, between the samples of a batch, and between the classes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from understudy.functional.divergences import kl_divergence
from understudy.functional.geometry import precise, products


def multilevel_logit_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0),
    instance_level: float = 1.0,
    batch_level: float = 1.0,
    class_level: float = 1.0,
) -> Float[Tensor, ""]:
    r"""Student and teacher agree on each sample, on which samples are alike, and on which classes go together.

    .. math:: \sum_\tau \Big( w_I \frac{\tau^2}{B} \sum_i \mathrm{KL}(p^T_i \| p^S_i)
        + \frac{w_B}{B} \| P_T P_T^\top - P_S P_S^\top \|_F^2
        + \frac{w_C}{K} \| P_T^\top P_T - P_S^\top P_S \|_F^2 \Big), \quad P = \mathrm{softmax}(Z / \tau)

    Args:
        student_logits: (batch, classes), at least one row, unnormalised; the gradient goes here.
        teacher_logits: the same shape; a constant of the loss, which gives it no gradient.
        temperatures: each :math:`\tau > 0` divides both logits; the loss is the sum over them.
        instance_level: :math:`w_I`, weight of the divergence of single predictions.
        batch_level: :math:`w_B`, weight of the similarity of the B samples, (B, B).
        class_level: :math:`w_C`, weight of the similarity of the K classes, (K, K).

    Returns:
        A scalar, in float32 or better.

    Scale:
        0 at equality, otherwise not negative. A sum over temperatures, so that one more of them adds to it. The
        first part is a mean over samples. The others are sums of squares, as in the authors' code: the second, divided
        by B once, is at most B; the third, divided by K, at most :math:`2 B^2 / K`: they grow with the batch. Only
        the first has the factor :math:`\tau^2`.

    Example:
        >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[100.0, 0.0]])
        >>> multilevel_logit_loss(student, teacher, temperatures=(1.0,))  # log 2 + 1/4 + 3/8
        tensor(1.3181)

    References:
        Jin, Wang, Lin: Multi-Level Logit Distillation, CVPR 2023.
    """
    losses = []
    for temperature in temperatures:
        own, answer = precise(student_logits) / temperature, precise(teacher_logits.detach()) / temperature
        student, teacher = own.softmax(-1), answer.softmax(-1)
        of_instances = temperature**2 * kl_divergence(own, answer).mean()
        of_batch = _difference(student, teacher)
        of_classes = _difference(student.T, teacher.T)
        losses.append(instance_level * of_instances + batch_level * of_batch + class_level * of_classes)
    return torch.stack(losses).sum()


def _difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of the inner products of all rows with all rows, divided by the rows once."""
    return (products(student, student) - products(teacher, teacher)).square().sum() / len(student)
