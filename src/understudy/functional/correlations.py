"""Losses on the correlation of class probabilities."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from understudy.functional.geometry import precise

_CONSTANT = 1e-6
"""A vector whose deviations are this small beside it is constant up to rounding."""


def dist_loss(
    student_logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    *,
    temperature: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
) -> Float[Tensor, ""]:
    r"""Student and teacher correlate over the classes of each sample, and over the samples for each class.

    .. math:: \tau^2 \Big( \frac{\beta}{B} \sum_i (1 - \rho(p^S_{i:}, p^T_{i:})) +
        \frac{\gamma}{K} \sum_k (1 - \rho(p^S_{:k}, p^T_{:k})) \Big), \quad p = \mathrm{softmax}(z / \tau)

    :math:`\rho` is Pearson's correlation. What is constant (a uniform row, a class that has the same probability in
    every sample, up to 1e-6 of it) has correlation 0 with everything, and no gradient.

    Args:
        student_logits: (batch, classes), unnormalised; the gradient goes here.
        teacher_logits: the same shape; a constant of the loss, which gives it no gradient.
        temperature: :math:`\tau > 0` divides both logits.
        beta: weight of the relation between the classes of a sample.
        gamma: weight of the relation between the samples of a class.

    Returns:
        A scalar, in float32 or better.

    Scale:
        0 at equality, if nothing is constant, and wherever the student's probabilities are a linear function of the
        teacher's with positive slope; at most :math:`2 \tau^2 (\beta + \gamma)`. The same with both swapped. The
        factor :math:`\tau^2` is the authors' code's, not the paper's; their code also adds 1e-8 to the product of the
        standard deviations, which hides rare classes.

    Example:
        >>> student = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> dist_loss(student, -student)  # two classes: every correlation is -1
        tensor(4.)

    References:
        Huang et al.: Knowledge Distillation from A Stronger Teacher, NeurIPS 2022 (arXiv:2205.10536).
    """
    student = (precise(student_logits) / temperature).softmax(-1)
    teacher = (precise(teacher_logits.detach()) / temperature).softmax(-1)
    between_classes = 1.0 - _correlation(student, teacher).mean()
    between_samples = 1.0 - _correlation(student.T, teacher.T).mean()
    return temperature**2 * (beta * between_classes + gamma * between_samples)


def _correlation(left: Tensor, right: Tensor) -> Tensor:
    """Pearson's, of each row."""
    return (_standard(left) * _standard(right)).sum(-1)


def _standard(rows: Tensor) -> Tensor:
    """Rows of mean zero and length one; zeros for a constant row."""
    deviations = rows - rows.mean(-1, keepdim=True)
    length = torch.linalg.vector_norm(deviations, dim=-1, keepdim=True)
    least = _CONSTANT * torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return deviations / torch.where(length > least, length, math.inf)
