"""Losses of a teacher that is made by hand."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from understudy.functional.geometry import precise
from understudy.functional.reduction import masked_mean


def virtual_teacher_loss(
    student_logits: Float[Tensor, "*positions classes"],
    targets: Int[Tensor, "*positions"],
    *,
    correct_probability: float = 0.99,
    temperature: float = 20.0,
    ignore_index: int = -100,
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Divergence from a teacher that is always right and thinks the same of all other classes.

    .. math:: \sum_k \tilde p_k \log \frac{\tilde p_k}{p^S_k}, \quad \tilde p = \mathrm{softmax}(p^d / \tau), \quad
        p^d_k = \begin{cases} a & k = y \\ (1 - a) / (K - 1) & k \ne y \end{cases}

    Computed in log space, in float32 or, for float64 logits, in float64.

    Args:
        student_logits: (..., classes), unnormalised; the gradient goes here. They have no temperature.
        targets: y, the class index per position; ``ignore_index`` where there is no label.
        correct_probability: a, what the virtual teacher gives to the true class before it is softened.
        temperature: :math:`\tau > 0` softens the virtual teacher: high, and it is nearly uniform.
        ignore_index: the target of a position that has no label and does not count.
        mask: which of the labelled positions count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar: summed over classes, the mean over the labelled positions that count.

    Scale:
        0 where the student has the virtual teacher's softened probabilities, otherwise positive, in nats. For
        :math:`\tau \to \infty` it is the divergence from the uniform distribution; for :math:`a = 1` and
        :math:`\tau \to 0` the cross-entropy with the labels. There is no factor :math:`\tau^2`. The authors' code
        averages over the K classes too and multiplies: its term is ``multiplier / K`` times this one. The paper
        divides the student's logits by :math:`\tau` too; for that, pass them so.

    Example:
        >>> targets = torch.tensor([1])
        >>> virtual_teacher_loss(torch.tensor([[0.0, 0.0]]), targets, correct_probability=1.0, temperature=0.9102392)
        tensor(0.1308)

    References:
        Yuan et al.: Revisiting Knowledge Distillation via Label Smoothing Regularization, CVPR 2020
        (arXiv:1909.11723), eq. 9, softened as in the authors' code.
    """
    student = precise(student_logits).log_softmax(-1)
    classes = student_logits.shape[-1]
    is_target = torch.arange(classes, device=targets.device) == targets[..., None]
    others = (1.0 - correct_probability) / max(classes - 1, 1)
    made = torch.full(is_target.shape, others / temperature, dtype=student.dtype, device=targets.device)
    made = made.masked_fill(is_target, correct_probability / temperature)
    divergence = F.kl_div(student, made.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    counts = targets != ignore_index
    return masked_mean(divergence, mask=counts if mask is None else counts & mask, total=total)
