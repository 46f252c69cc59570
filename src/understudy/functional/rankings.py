"""Losses on the scores of a list of candidates, of which only the order and the distances matter."""

from jaxtyping import Bool, Float
from torch import Tensor

from understudy.functional.geometry import precise
from understudy.functional.reduction import masked_mean


def margin_mse_loss(
    student_logits: Float[Tensor, "*positions candidates"],
    teacher_logits: Float[Tensor, "*positions candidates"],
    *,
    mask: Bool[Tensor, "*positions"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Mean squared difference of the margins between two candidates, over all pairs of candidates.

    .. math:: \frac{1}{K (K - 1)} \sum_{j \ne k} \big((s_j - s_k) - (t_j - t_k)\big)^2
        = \frac{2}{K - 1} \sum_k (d_k - \bar d)^2, \quad d = s - t

    The right-hand side is computed: K terms in place of K² pairs.

    Args:
        student_logits: (..., candidates), the scores; the gradient goes here.
        teacher_logits: the same shape; a constant of the loss, which gives it no gradient.
        mask: which positions (queries) count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar, in float32 or better: the mean over the pairs and over the positions that count.

    Scale:
        0 at equality, where a position's scores differ by a constant, and for a single candidate, which has no
        margin; otherwise positive, in the square of the scores' unit. With two candidates it is the paper's loss.
        It is :math:`2 K / (K - 1)` times :func:`logit_mse_loss` with ``centred=True``.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 5.0]])
        >>> margin_mse_loss(student, teacher)  # margins of 2 and 5
        tensor(9.)

    References:
        Hofstätter et al.: Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge Distillation,
        2020 (arXiv:2010.02666).
    """
    difference = precise(student_logits) - precise(teacher_logits.detach())
    deviation = difference - difference.mean(-1, keepdim=True)
    pairs_of_one = max(deviation.shape[-1] - 1, 1)
    return 2.0 / pairs_of_one * masked_mean(deviation.square().sum(-1), mask=mask, total=total)
