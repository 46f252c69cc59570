"""Losses between intermediate features."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from understudy.functional.divergences import kl_divergence
from understudy.functional.geometry import precise, products, unit
from understudy.functional.reduction import masked_mean


def hint_loss(
    student_feature: Float[Tensor, "batch *feature"],
    teacher_feature: Float[Tensor, "batch *feature"],
    *,
    mask: Bool[Tensor, " batch"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Mean squared difference of two features of one shape: :math:`\frac{1}{N} \sum_i (s_i - t_i)^2`.

    Args:
        student_feature: the student's feature, already adapted to the teacher's shape; the gradient goes here.
        teacher_feature: the same shape; a constant of the loss, which gives it no gradient.
        mask: (batch,), which rows count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar: the mean over all elements of the rows that count, in float32 or better.

    Scale:
        0 at equality; the square of the features' own unit, so that a weight tuned for one layer does not carry
        over to another. The paper sums over elements and halves: its loss is this one times ``numel / 2``.

    Example:
        >>> import torch
        >>> hint_loss(torch.zeros(1, 4), torch.full((1, 4), 2.0))
        tensor(4.)

    References:
        Romero et al.: FitNets, 2015 (arXiv:1412.6550), eq. 3.
    """
    student, teacher = precise(student_feature), precise(teacher_feature.detach())
    if mask is None and total is None:
        return F.mse_loss(student, teacher)  # difference and square in one pass, and as few in its gradient
    squared = F.mse_loss(student, teacher, reduction="none")
    return masked_mean(squared.unsqueeze(-1).flatten(1).mean(-1), mask=mask, total=total)


def attention_transfer_loss(
    student_feature: Float[Tensor, "batch student_channels student_height student_width"],
    teacher_feature: Float[Tensor, "batch teacher_channels teacher_height teacher_width"],
    *,
    power: float = 2.0,
    mask: Bool[Tensor, " batch"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Mean squared difference of two attention maps of unit length.

    .. math:: \frac{1}{N H W} \sum_i \left\| \frac{Q^S_i}{\|Q^S_i\|_2} - \frac{Q^T_i}{\|Q^T_i\|_2} \right\|_2^2,
        \quad Q = \mathrm{vec} \sum_c |F_c|^p

    Args:
        student_feature: (batch, channels, height, width), any number of channels; the gradient goes here.
        teacher_feature: the same with its own channels and size; a constant of the loss, which gives it no gradient.
        power: :math:`p \ge 1`; the higher, the more the strongest pixels count.
        mask: (batch,), which rows count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar, in float32 or better.

    Scale:
        0 where both maps are proportional, at most 2 / (height · width): weights near a thousand are usual. The
        paper takes the norm (eq. 2); the authors' code and everybody after it the mean of squares, as here. Of maps
        of two sizes the larger is averaged down. A map without any activation stays zero, without gradient.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 3.0]]]])
        >>> attention_transfer_loss(student, teacher)
        tensor(1.)

    References:
        Zagoruyko, Komodakis: Paying More Attention to Attention, ICLR 2017 (arXiv:1612.03928), eq. 2.
    """
    features = precise(student_feature), precise(teacher_feature.detach())
    student, teacher = at_one_size(*(_activity(feature, power) for feature in features))
    squared = (_attention(student) - _attention(teacher)).square()
    return masked_mean(squared.mean(-1), mask=mask, total=total)


def cosine_feature_loss(
    student_feature: Float[Tensor, "batch *positions channels"],
    teacher_feature: Float[Tensor, "batch *positions channels"],
    *,
    mask: Bool[Tensor, " batch"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Cosine distance of two features: :math:`\frac{1}{N} \sum_i 1 - \frac{s_i \cdot t_i}{\|s_i\| \|t_i\|}`.

    Args:
        student_feature: (batch, ..., channels), already adapted to the teacher's shape; the gradient goes here.
        teacher_feature: the same shape; a constant of the loss, which gives it no gradient.
        mask: (batch,), which rows count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar: the mean over the positions of the rows that count, in float32 or better.

    Scale:
        0 where both point the same way, 1 at a right angle, 2 where they are opposed; no unit. A vector of zeros
        is at a right angle to everything, and gets no gradient.

    Example:
        >>> import torch
        >>> cosine_feature_loss(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 0.5]]))
        tensor(1.)

    References:
        Sanh et al.: DistilBERT, 2019 (arXiv:1910.01108), section 2.
    """
    student, teacher = unit(precise(student_feature)), unit(precise(teacher_feature.detach()))
    distance = 1.0 - (student * teacher).sum(-1)
    return masked_mean(distance.unsqueeze(-1).flatten(1).mean(-1), mask=mask, total=total)


def neuron_selectivity_loss(
    student_feature: Float[Tensor, "batch student_channels student_height student_width"],
    teacher_feature: Float[Tensor, "batch teacher_channels teacher_height teacher_width"],
    *,
    mask: Bool[Tensor, " batch"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Squared maximum mean discrepancy between where the channels of student and teacher are active.

    .. math:: \frac{1}{C_S^2} \sum_{c, d} k(s_c, s_d) + \frac{1}{C_T^2} \sum_{c, d} k(t_c, t_d)
        - \frac{2}{C_S C_T} \sum_{c, d} k(s_c, t_d), \quad k(x, y) = (x^\top y)^2

    with each channel's pixels as a vector of unit length. For this kernel it is the squared distance of
    :math:`S^\top S / C_S` and :math:`T^\top T / C_T`, which is how it is computed where there are few pixels.

    Args:
        student_feature: (batch, channels, height, width), any number of channels; the gradient goes here.
        teacher_feature: the same with its own channels and size; a constant of the loss, which gives it no gradient.
        mask: (batch,), which rows count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar, in float32 or better.

    Scale:
        0 at equality, and for channels in another order; from 0 to 2 without a unit. Of maps of two sizes the larger
        is averaged down. A channel without any activation stays zero, without gradient.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 3.0]]]])
        >>> neuron_selectivity_loss(student, teacher)
        tensor(2.)

    References:
        Huang, Wang: Like What You Like: Knowledge Distill via Neuron Selectivity Transfer, 2017 (arXiv:1707.01219),
        with the polynomial kernel of d = 2, c = 0.
    """
    features = at_one_size(precise(student_feature), precise(teacher_feature.detach()))
    student, teacher = (unit(feature.flatten(2)) for feature in features)
    if student.shape[2] <= student.shape[1] + teacher.shape[1]:  # fewer pixels than channels
        own, other = (products(side.mT, side.mT) / side.shape[1] for side in (student, teacher))
        return masked_mean((own - other).square().sum((1, 2)), mask=mask, total=total)
    pairs = (student, student), (teacher, teacher), (student, teacher)
    within, beyond, across = (products(one, other).square().mean((1, 2)) for one, other in pairs)
    return masked_mean(within + beyond - 2.0 * across, mask=mask, total=total)


def channel_wise_loss(
    student_feature: Float[Tensor, "batch channels height width"],
    teacher_feature: Float[Tensor, "batch channels height width"],
    *,
    temperature: float = 4.0,
    mask: Bool[Tensor, " batch"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Divergence of where each channel is active, as a distribution over its pixels.

    .. math:: \frac{\tau^2}{N C} \sum_{i, c} \mathrm{KL}(p^T_{ic} \| p^S_{ic}),
        \quad p_{ic} = \mathrm{softmax}_{\mathrm{pixels}}(F_{ic} / \tau)

    Args:
        student_feature: (batch, channels, height, width), already adapted to the teacher's shape; the gradient goes
            here.
        teacher_feature: the same shape; a constant of the loss, which gives it no gradient.
        temperature: :math:`\tau > 0`; the higher, the more of a channel's pixels count.
        mask: (batch,), which rows count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar, in float32 or better: summed over pixels, averaged over channels and over the rows that count.

    Scale:
        0 at equality, and where a channel differs by a constant; otherwise positive and unbounded.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[[0.0, 0.0]]]]), torch.tensor([[[[0.0, 1.0986123]]]])
        >>> channel_wise_loss(student, teacher, temperature=1.0)  # pixels 1/4 and 3/4
        tensor(0.1308)

    References:
        Shu et al.: Channel-wise Knowledge Distillation for Dense Prediction, ICCV 2021 (arXiv:2011.13256).
    """
    divergence = kl_divergence(student_feature.flatten(2), teacher_feature.detach().flatten(2), temperature=temperature)
    return temperature**2 * masked_mean(divergence.mean(1), mask=mask, total=total)


def at_one_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps (N, C, H, W), each averaged down to the smaller height and the smaller width of the two."""
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    pooled = [
        each if tuple(each.shape[2:]) == size else F.adaptive_avg_pool2d(each, size) for each in (student, teacher)
    ]
    return pooled[0], pooled[1]


def _activity(
    feature: Float[Tensor, "batch channels height width"], power: float
) -> Float[Tensor, "batch 1 height width"]:
    # A square has no need of absolute values, which take as long and as much memory again.
    raised = feature.square() if power == 2.0 else feature.abs().pow(power)
    return raised.mean(1, keepdim=True)


def _attention(activity: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch pixels"]:
    """At length 1; divided by its largest pixel before, since a square of a fourth power leaves float32."""
    flat = activity.flatten(1)
    return unit(flat / flat.detach().amax(1, keepdim=True).clamp_min(1e-12))
