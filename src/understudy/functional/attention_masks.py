"""Losses on features that are weighted by how active both networks are."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from understudy.functional.geometry import precise
from understudy.functional.reduction import masked_mean


def masked_feature_loss(
    student_feature: Float[Tensor, "batch channels height width"],
    teacher_feature: Float[Tensor, "batch channels height width"],
    *,
    temperature: float = 0.1,
    attention: float = 4e-3 / 7e-5,
    mask: Bool[Tensor, " batch"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Distance of two maps, in which pixels and channels count as far as both are active there.

    .. math:: \frac{1}{N} \sum_i \Big(\sum_{c, h, w} M_{ic} M_{ihw} (s_{ichw} - t_{ichw})^2\Big)^{1/2}
        + \lambda \Big(\|a(s_i) - a(t_i)\|_2 + \|b(s_i) - b(t_i)\|_2\Big)

    .. math:: M_{ihw} = H W \, \mathrm{softmax}_{hw}\Big(\frac{a(s_i) + a(t_i)}{\tau}\Big), \quad
        M_{ic} = C \, \mathrm{softmax}_c\Big(\frac{b(s_i) + b(t_i)}{\tau}\Big)

    where a is the mean of :math:`|x|` over the channels, for each pixel, and b that over the pixels, for each channel.

    Args:
        student_feature: (batch, channels, height, width), already adapted to the teacher's shape; the gradient goes
            here, though not through the masks.
        teacher_feature: the same shape; a constant of the loss, which gives it no gradient.
        temperature: :math:`\tau > 0`; the lower, the more the masks pick out the most active.
        attention: :math:`\lambda`, weight of the distances between the activities.
        mask: (batch,), which rows count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar, in float32 or better: norms over a sample, averaged over the rows that count.

    Scale:
        0 at equality; the features' own unit, not its square. It grows with the square root of the map's size, as
        in the paper.

    Example:
        >>> import torch
        >>> student, teacher = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 3.0)
        >>> masked_feature_loss(student, teacher, attention=0.0)  # evenly active: the masks are 1
        tensor(6.)
        >>> masked_feature_loss(student, teacher, attention=1.0)  # and 6 for the pixels, 3 for the channel
        tensor(15.)

    References:
        Zhang, Ma: Improve Object Detection with Feature-based Knowledge Distillation, ICLR 2021, section 3.1.
    """
    student, teacher = precise(student_feature), precise(teacher_feature.detach())
    pixels = student.abs().mean(1).flatten(1), teacher.abs().mean(1).flatten(1)
    channels = student.abs().mean((2, 3)), teacher.abs().mean((2, 3))
    of_pixels, of_channels = _share(*pixels, temperature), _share(*channels, temperature)
    weights = of_channels.sqrt()[:, :, None] * of_pixels.sqrt()[:, None, :]
    values = _norm(((student - teacher).flatten(2) * weights).flatten(1))
    values = values + attention * (_norm(pixels[0] - pixels[1]) + _norm(channels[0] - channels[1]))
    return masked_mean(values, mask=mask, total=total)


def _share(
    student: Float[Tensor, "batch items"], teacher: Float[Tensor, "batch items"], temperature: float
) -> Float[Tensor, "batch items"]:
    """The share of each item in what both do, 1 on average."""
    return student.shape[1] * ((student + teacher).detach() / temperature).softmax(1)


def _norm(rows: Float[Tensor, "batch items"]) -> Float[Tensor, " batch"]:
    return torch.linalg.vector_norm(rows, dim=1)
