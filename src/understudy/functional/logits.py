"""Losses on the student's logits alone."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from understudy.functional.geometry import precise
from understudy.functional.reduction import positive


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
