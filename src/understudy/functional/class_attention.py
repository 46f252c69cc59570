"""Where in an image a network sees its classes."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from understudy.functional.geometry import precise, products, unit
from understudy.functional.reduction import masked_mean


def class_activation_maps(
    feature: Float[Tensor, "batch channels height width"], weight: Float[Tensor, "classes channels *pixel"]
) -> Float[Tensor, "batch classes height width"]:
    r"""What a classifier would say of each pixel, :math:`\mathrm{CAM}_k(x, y) = \sum_c w_{kc} f_c(x, y)`.

    Args:
        feature: (batch, channels, height, width), the map whose mean over pixels the classifier gets.
        weight: (classes, channels) of a linear layer, or (classes, channels, 1, 1) of a convolution of single pixels.

    Returns:
        (batch, classes, height, width), in float32 or better. Their means over pixels are the logits, less the bias.

    Example:
        >>> import torch
        >>> feature = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])  # a channel for each of two pixels
        >>> class_activation_maps(feature, torch.tensor([[2.0, 3.0]]))
        tensor([[[[2., 3.]]]])

    References:
        Zhou, Khosla, Lapedriza, Oliva, Torralba: Learning Deep Features for Discriminative Localization, CVPR 2016
        (arXiv:1512.04150).
    """
    count, _, height, width = feature.shape
    pixels = precise(feature).movedim(1, -1).flatten(0, 2)
    return products(pixels, precise(weight).flatten(1)).unflatten(0, (count, height, width)).movedim(-1, 1)


def class_attention_loss(
    student_maps: Float[Tensor, "batch classes student_height student_width"],
    teacher_maps: Float[Tensor, "batch classes teacher_height teacher_width"],
    *,
    grid: int = 2,
    unit_length: bool = True,
    mask: Bool[Tensor, " batch"] | None = None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    r"""Mean squared difference of class activation maps, averaged to a small grid, each at unit length.

    .. math:: \frac{1}{N K g^2} \sum_{i, k} \left\| \frac{P m^S_{ik}}{\|P m^S_{ik}\|_2}
        - \frac{P m^T_{ik}}{\|P m^T_{ik}\|_2} \right\|_2^2

    Args:
        student_maps: (batch, classes, height, width); the gradient goes here.
        teacher_maps: (batch, classes, height, width), in another size if need be; a constant of the loss.
        grid: :math:`g`, the height and width to which P averages the maps.
        unit_length: whether the maps are divided by their lengths.
        mask: (batch,), which rows count; None means all.
        total: see :func:`masked_mean`.

    Returns:
        A scalar, in float32 or better: the mean over cells, classes and the rows that count.

    Scale:
        0 where each averaged map is the teacher's times a positive number (or the teacher's itself, without
        ``unit_length``), at most :math:`4 / g^2`, where it is opposed; without ``unit_length`` the square of the
        logits' unit. A map of no length stays zero.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 5.0]]]])
        >>> class_attention_loss(student, teacher, grid=2)  # the grid repeats the row: 4 cells of 0.7071
        tensor(0.5000)

    References:
        Guo, Yan, Li, Lin: Class Attention Transfer Based Knowledge Distillation, CVPR 2023 (arXiv:2304.12777),
        section 3.3.
    """
    student, teacher = (
        F.adaptive_avg_pool2d(precise(maps), grid).flatten(2) for maps in (student_maps, teacher_maps.detach())
    )
    if unit_length:
        student, teacher = unit(student), unit(teacher)
    return masked_mean((student - teacher).square().mean((1, 2)), mask=mask, total=total)
