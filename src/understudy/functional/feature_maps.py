"""Losses between maps of a student and a teacher that look at more than one element at a time."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from understudy.functional.features import at_one_size
from understudy.functional.geometry import precise, products, unit
from understudy.functional.reduction import masked_mean

_CONSTANT = 1e-6
"""A channel that deviates from its mean by less than this part of its size only shows rounding errors."""


def pearson_channel_loss(
    student_feature: Float[Tensor, "batch channels *pixels"],
    teacher_feature: Float[Tensor, "batch channels *pixels"],
) -> Float[Tensor, ""]:
    r"""Half the mean squared difference of standardised channels, which is one minus Pearson's correlation.

    .. math:: \frac{1}{2 C M} \sum_{c, m} (\hat s_{cm} - \hat t_{cm})^2 = 1 - \frac{1}{C} \sum_c r(s_c, t_c),
        \quad \hat x = \frac{x - \bar x}{\sigma_x}

    where m counts the :math:`M` values that a channel has: all pixels of all samples.

    Args:
        student_feature: (batch, channels, ...), already adapted to the teacher's shape; the gradient goes here.
        teacher_feature: the same shape; a constant of the loss, which gives it no gradient.

    Returns:
        A scalar, in float32 or better.

    Scale:
        0 where every channel is the teacher's up to a positive factor and a constant, 1 without correlation, 2 where
        it is reversed; no unit. A channel that is constant has nothing to standardise: it stays zero, without
        gradient, and counts as 1/2 against one that is not.

    Example:
        >>> student, teacher = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[5.0], [5.0], [8.0]])
        >>> pearson_channel_loss(student, teacher)
        tensor(0.1340)

    References:
        Cao et al.: PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient,
        NeurIPS 2022 (arXiv:2207.02039).
    """
    student = _standardised(precise(student_feature))
    teacher = _standardised(precise(teacher_feature.detach()))
    return 0.5 * (student - teacher).square().sum(-1).mean()


def variational_loss(
    student_feature: Float[Tensor, "batch *positions channels"],
    teacher_feature: Float[Tensor, "batch *positions channels"],
    *,
    variance: Float[Tensor, " channels"],
    mask: Bool[Tensor, " batch"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Negative logarithm of the density that a Gaussian around the student's prediction gives the teacher's feature.

    .. math:: \frac{1}{2 N} \sum_i \frac{(t_i - \mu_i)^2}{\sigma_{c(i)}^2} + \log \sigma_{c(i)}^2

    without the constant :math:`\frac{1}{2} \log 2 \pi`; i runs over all N elements, c(i) is an element's channel.

    Args:
        student_feature: (batch, ..., channels), the mean that is predicted; a gradient goes here.
        teacher_feature: the same shape; a constant of the loss, which gives it no gradient.
        variance: (channels,), positive; a gradient goes here too.
        mask: (batch,), which rows count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar: the mean over all elements of the rows that count, in float32 or better.

    Scale:
        At equality :math:`\frac{1}{2} \log \sigma^2`: 0 for a variance of 1 and negative for a smaller one, so that
        there is no lower bound. A density has the unit of the feature: scaling both adds the factor's logarithm.

    Example:
        >>> variational_loss(torch.zeros(1, 2), torch.full((1, 2), 2.0), variance=torch.ones(2))
        tensor(2.)

    References:
        Ahn et al.: Variational Information Distillation for Knowledge Transfer, CVPR 2019 (arXiv:1904.05835).
    """
    spread = precise(variance)
    squared = F.mse_loss(precise(student_feature), precise(teacher_feature.detach()), reduction="none")
    # The mean over positions first: what remains to be done is done to one number per channel.
    of_channels = squared.movedim(-1, 1).unsqueeze(-1).flatten(2).mean(-1)
    surprise = 0.5 * (of_channels / spread + spread.log())
    return masked_mean(surprise.mean(-1), mask=mask, total=total)


def activation_boundary_loss(
    student_feature: Float[Tensor, "batch *feature"],
    teacher_feature: Float[Tensor, "batch *feature"],
    *,
    margin: float = 1.0,
    mask: Bool[Tensor, " batch"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Squared hinge by which the student's neurons are to be on the teacher's side of zero.

    .. math:: \frac{1}{N} \sum_i \sum_j \max(0, m - s_{ij})^2 \, [t_{ij} > 0] + \max(0, m + s_{ij})^2 \, [t_{ij} \le 0]

    Args:
        student_feature: the student's feature before its activation function, adapted to the teacher's shape; the
            gradient goes here.
        teacher_feature: the same shape; only the signs count; it gets no gradient.
        margin: :math:`m > 0`, how far on its side of zero a neuron has to be.
        mask: (batch,), which rows count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar, in float32 or better: summed over the neurons, averaged over the rows that count.

    Scale:
        0 where every neuron of the student is at least the margin on the teacher's side; at equality what lies
        within the margin still counts. It grows with the number of neurons, as in the paper.

    Example:
        >>> activation_boundary_loss(torch.tensor([[0.5, 0.5, 3.0]]), torch.tensor([[9.0, -9.0, 9.0]]))
        tensor(2.5000)

    References:
        Heo et al.: Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons, AAAI 2019
        (arXiv:1811.03233).
    """
    student = precise(student_feature)
    beyond = torch.where(teacher_feature.detach() > 0, student, -student)
    missing = (margin - beyond).clamp_min(0.0).square()
    return masked_mean(missing.unsqueeze(-1).flatten(1).sum(-1), mask=mask, total=total)


def fsp_loss(
    student_feature: tuple[Tensor, Tensor],
    teacher_feature: tuple[Tensor, Tensor],
    *,
    mask: Bool[Tensor, " batch"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Mean squared difference of two flows, each from one layer of a network to a later one.

    .. math:: \frac{1}{N C D} \sum_i \| G^S_i - G^T_i \|_F^2, \quad G_{cd} = \frac{1}{H W} \sum_{h, w} A_{chw} B_{dhw}

    Args:
        student_feature: an earlier map A (batch, C, h, w) and a later one B (batch, D, h', w'); the gradient goes
            here.
        teacher_feature: the same of the teacher, with the same numbers of channels C and D and any sizes; constants
            of the loss, which gives them no gradient.
        mask: (batch,), which rows count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar, in float32 or better: the mean over the :math:`C \cdot D` entries and the rows that count.

    Scale:
        0 at equality; the fourth power of the features' unit. The paper sums over the entries. Where A and B differ
        in size, the larger is averaged down (the paper takes maxima).

    Example:
        >>> ones = torch.ones(1, 2, 4, 4)
        >>> fsp_loss((ones, ones), (ones, 3 * ones))
        tensor(4.)

    References:
        Yim et al.: A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer Learning,
        CVPR 2017, eq. 1 and 2.
    """
    teacher = _flow(teacher_feature[0].detach(), teacher_feature[1].detach())
    squared = (_flow(*student_feature) - teacher).square()
    return masked_mean(squared.mean((1, 2)), mask=mask, total=total)


def overhaul_loss(
    student_feature: Float[Tensor, "batch channels height width"],
    teacher_feature: Float[Tensor, "batch channels height width"],
    *,
    margin: Float[Tensor, " channels"],
    mask: Bool[Tensor, " batch"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Squared difference from the teacher's feature behind a margin ReLU, where the student is not below it anyway.

    .. math:: \frac{1}{N} \sum_i \sum_j d_p(s_{ij}, \max(t_{ij}, m_{c(j)})),
        \quad d_p(s, u) = \begin{cases} 0 & s \le u \le 0 \\ (s - u)^2 & \text{otherwise} \end{cases}

    where j runs over channels and pixels, and c(j) is an element's channel.

    Args:
        student_feature: (batch, channels, height, width), already adapted to the teacher's shape; the gradient goes
            here.
        teacher_feature: the same shape, before its activation function; a constant of the loss, which gives it no
            gradient.
        margin: (channels,), :math:`m \le 0`: what the teacher's negative values are on average; a constant too.
        mask: (batch,), which rows count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar, in float32 or better: summed over channels and pixels, averaged over the rows that count.

    Scale:
        0 at equality, and wherever the student is below a target that is not positive; the square of the feature's
        unit. It grows with the size of the feature, as in the paper.

    Example:
        >>> student = torch.tensor([1.0, -9.0, 1.0, -9.0]).reshape(1, 1, 2, 2)
        >>> teacher = torch.tensor([3.0, -3.0, -3.0, 3.0]).reshape(1, 1, 2, 2)
        >>> overhaul_loss(student, teacher, margin=torch.tensor([-1.0]))  # 2² + 0 + 2² + 12²
        tensor(152.)

    References:
        Heo et al.: A Comprehensive Overhaul of Feature Distillation, ICCV 2019 (arXiv:1904.01866), section 3.
    """
    student, teacher = precise(student_feature), precise(teacher_feature.detach())
    target = torch.maximum(teacher, precise(margin.detach())[:, None, None])
    squared = torch.where((student > target) | (target > 0), (student - target).square(), 0.0)
    return masked_mean(squared.flatten(1).sum(-1), mask=mask, total=total)


def _standardised(feature: Float[Tensor, "batch channels *pixels"]) -> Float[Tensor, "channels values"]:
    """Deviations of each channel from its mean, divided by their root of the sum of squares."""
    values = feature.transpose(0, 1).flatten(1)
    least = _CONSTANT * torch.linalg.vector_norm(values.detach(), dim=-1, keepdim=True) + 1e-12
    return unit(values - values.mean(-1, keepdim=True), least=least)


def _flow(
    earlier: Float[Tensor, "batch channels height width"], later: Float[Tensor, "batch features tall wide"]
) -> Float[Tensor, "batch channels features"]:
    """The mean over the pixels of all products of two channels."""
    one, other = (feature.flatten(2) for feature in at_one_size(precise(earlier), precise(later)))
    return products(one, other) / one.shape[2]
