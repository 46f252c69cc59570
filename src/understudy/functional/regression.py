"""Losses between numbers that a student and a teacher predict."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from understudy.functional.geometry import precise
from understudy.functional.reduction import masked_mean


def regression_loss(
    student_logits: Float[Tensor, "*positions outputs"],
    teacher_logits: Float[Tensor, "*positions outputs"],
    *,
    norm: Literal["huber", "l1", "l2"] = "huber",
    delta: float = 1.0,
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""A norm of the difference d of two predictions, averaged over outputs and over positions.

    .. math:: \mathrm{huber}(d) = \begin{cases} d^2 / 2 & |d| \le \delta \\ \delta (|d| - \delta / 2) & |d| > \delta
        \end{cases}, \qquad \mathrm{l1}(d) = |d|, \qquad \mathrm{l2}(d) = d^2

    Args:
        student_logits: (..., outputs), numbers of any unit; the gradient goes here.
        teacher_logits: the same shape; a constant of the loss, which gives it no gradient.
        norm: which of the three.
        delta: :math:`\delta > 0`, from which difference on the Huber loss grows linearly, in the outputs' unit; the
            others do not read it.
        mask: which positions count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar, in float32 or better.

    Scale:
        0 at equality, otherwise positive; in the outputs' unit (``l1``) or its square, of which the outputs should all
        have about the same size. The Huber loss is half the ``l2`` loss where all differences are below
        :math:`\delta`, and about :math:`\delta` times the ``l1`` loss where they are far above; with
        :math:`\delta = 1` it is the smooth L1 loss of detectors.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 0.0]])
        >>> [regression_loss(student, teacher, norm=norm) for norm in ("huber", "l1", "l2")]
        [tensor(1.5000), tensor(2.), tensor(5.)]

    References:
        Huber: Robust Estimation of a Location Parameter, 1964. Saputra et al.: Distilling Knowledge From a Deep Pose
        Regressor Network, ICCV 2019 (arXiv:1908.00858), for the teacher's prediction as the target.
    """
    student, teacher = precise(student_logits), precise(teacher_logits.detach())
    if norm == "huber":
        values = F.huber_loss(student, teacher, reduction="none", delta=delta)
    else:
        difference = student - teacher
        values = difference.abs() if norm == "l1" else difference.square()
    return masked_mean(values.mean(-1), mask=mask, total=total)
