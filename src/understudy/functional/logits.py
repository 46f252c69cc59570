"""Losses on the student's logits alone."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from understudy.functional.geometry import precise
from understudy.functional.reduction import masked_mean, positive


def cross_entropy_loss(
    student_logits: Float[Tensor, "*positions classes"],
    targets: Int[Tensor, "*positions"],
    *,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Cross-entropy with the true labels, :math:`-\sum_k q_k \log p^S_k`, averaged over the labelled positions.

    Args:
        student_logits: (..., classes), unnormalised; the gradient goes here.
        targets: class index per position; ``ignore_index`` where there is no label.
        label_smoothing: :math:`\epsilon` in :math:`q = (1 - \epsilon) \, \mathrm{onehot} + \epsilon / K`.
        ignore_index: the target of an unlabelled position.
        total: divide by this instead of by the number of labelled positions, see :func:`masked_mean`.

    Returns:
        A scalar in nats. Zero, still connected to the logits, when nothing is labelled.

    Scale:
        :math:`\log K` for a student that knows nothing; 0 at best without smoothing.

    Example:
        >>> import torch
        >>> cross_entropy_loss(torch.zeros(2, 4), torch.tensor([3, -100]))
        tensor(1.3863)

    References:
        Szegedy et al.: Rethinking the Inception Architecture, 2016 (arXiv:1512.00567), section 7, for smoothing.
    """
    classes = student_logits.shape[-1]
    summed = F.cross_entropy(
        precise(student_logits).reshape(-1, classes),
        targets.reshape(-1),
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction="sum",
    )
    if total is None:
        return summed / (targets != ignore_index).sum().clamp(min=1)
    return summed / positive(total)


def mixed_cross_entropy_loss(
    student_logits: Float[Tensor, "*positions classes"],
    targets: Int[Tensor, "*positions 2"],
    *,
    shares: Float[Tensor, "*positions"],
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Cross-entropy of samples that are mixed of two, :math:`\lambda H(y_1, p^S) + (1 - \lambda) H(y_2, p^S)`.

    Args:
        student_logits: (..., classes), unnormalised; the gradient goes here.
        targets: (..., 2), the class indices of both; ``ignore_index`` for one that has no label.
        shares: (...), :math:`\lambda`, how much of the mixed sample is the first.
        label_smoothing: :math:`\epsilon`, of both, as in :func:`cross_entropy_loss`.
        ignore_index: the label of a sample without one; a position counts if both are labelled.
        total: divide by this instead of by the number of positions that count, see :func:`masked_mean`.

    Returns:
        A scalar in nats. Zero, still connected to the logits, when no position counts.

    Scale:
        :math:`\log K` for a student that knows nothing; the entropy of :math:`\lambda` at best, 0 where both labels
        are the same. At :math:`\lambda = 1` it is :func:`cross_entropy_loss` of the first.

    Example:
        >>> import torch
        >>> logits, targets = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0, 1]])
        >>> mixed_cross_entropy_loss(logits, targets, shares=torch.tensor([0.75]))
        tensor(0.7395)

    References:
        Zhang et al.: mixup: Beyond Empirical Risk Minimization, ICLR 2018 (arXiv:1710.09412), section 2; in the
        authors' code as here, as two losses instead of one of the mixed one-hot labels.
    """
    classes = student_logits.shape[-1]
    logits, pairs = precise(student_logits).reshape(-1, classes), targets.reshape(-1, 2)
    first, second = (
        F.cross_entropy(logits, labels, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction="none")
        for labels in pairs.unbind(-1)
    )
    part = shares.reshape(-1).to(first.dtype)
    return masked_mean(part * first + (1.0 - part) * second, mask=(pairs != ignore_index).all(-1), total=total)
