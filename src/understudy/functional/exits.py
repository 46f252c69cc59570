"""Losses of a network's early exits, which its own last output teaches."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from understudy.functional.divergences import kl_divergence
from understudy.functional.geometry import precise
from understudy.functional.logits import cross_entropy_loss
from understudy.functional.reduction import masked_mean


def early_exit_loss(
    student_logits: Float[Tensor, "rows classes"],
    teacher_logits: Float[Tensor, "rows classes"],
    *,
    student_feature: Float[Tensor, "rows channels"],
    teacher_feature: Float[Tensor, "rows channels"],
    targets: Int[Tensor, " rows"] | None = None,
    alpha: float = 0.3,
    feature_weight: float = 0.03,
    temperature: float = 3.0,
    ignore_index: int = -100,
    mask: Bool[Tensor, " rows"] | None = None,
    labelled_total: Float[Tensor, ""] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""An early exit learns the labels, what the last output thinks, and the features that it is computed from.

    .. math:: (1 - \alpha) \, H(y, p) + \alpha \, \mathrm{KL}(q_\tau \| p_\tau) + \lambda \, \| f - g \|_2^2, \quad
        p_\tau = \mathrm{softmax}(z / \tau), \quad q_\tau = \mathrm{softmax}(\hat z / \tau)

    Args:
        student_logits: z, (rows, classes), of the exit; the gradient goes here.
        teacher_logits: :math:`\hat z`, the same shape, of the whole network; a constant of the loss.
        student_feature: f, (rows, channels), of the exit; the gradient goes here too.
        teacher_feature: g, the same shape, of the network's last stage; a constant of the loss.
        targets: y, the class index per row, ``ignore_index`` where there is no label; None: nowhere is one.
        alpha: :math:`\alpha` in [0, 1], the share of the last output beside the labels'.
        feature_weight: :math:`\lambda`.
        temperature: :math:`\tau > 0` divides both logits in the divergence.
        ignore_index: the target of a row that has no label.
        mask: which rows count; None means all.
        labelled_total: divides the cross-entropy, see :func:`masked_mean`.
        total: divides the other two, see :func:`masked_mean`.

    Returns:
        A scalar, in float32 or better: the mean over the labelled rows that count of the cross-entropy, and over all
        rows that count of the rest.

    Scale:
        Nats, summed over classes, without a factor :math:`\tau^2`, and the features' unit squared, summed over
        channels. Where the exit equals the last output it is :math:`1 - \alpha` times their cross-entropy, which is 0
        at best.

    Example:
        >>> import torch
        >>> early, last = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0986123]])  # 1/2, and 1/4 and 3/4
        >>> one, two = torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 3.0]])
        >>> early_exit_loss(early, last, student_feature=one, teacher_feature=two, alpha=1.0, temperature=1.0)
        tensor(0.2808)

    References:
        Zhang et al.: Be Your Own Teacher, ICCV 2019 (arXiv:1905.08094), section 3.2, with the hyper-parameters of the
        code that the authors published with the longer version (IEEE TPAMI 2021).
    """
    divergence = kl_divergence(student_logits, teacher_logits.detach(), temperature=temperature)
    distance = (precise(student_feature) - precise(teacher_feature.detach())).square().sum(-1)
    loss = masked_mean(alpha * divergence + feature_weight * distance, mask=mask, total=total)
    if targets is None:
        return loss
    known = targets if mask is None else targets.masked_fill(~mask, ignore_index)
    return loss + (1.0 - alpha) * cross_entropy_loss(
        student_logits, known, ignore_index=ignore_index, total=labelled_total
    )
