"""Small trainable maps that bring a student's feature to the shape of a teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from understudy.errors import InputError


@final
class SpatialAdapter(nn.Module):
    """A 1×1 convolution over the channels, and a resize to the teacher's height and width.

    Each of height and width that shrinks is averaged (adaptive pooling), each that grows is interpolated
    (bilinear), so that no pixel is thrown away.

    Args:
        channels: (student, teacher) numbers of channels.
        size: (height, width) of the teacher's feature.
    """

    def __init__(self, channels: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__()
        self.project = nn.Conv2d(*channels, kernel_size=1, bias=False) if channels[0] != channels[1] else nn.Identity()
        self.size = size

    def forward(self, feature: Tensor) -> Tensor:
        """(batch, student channels, h, w) to (batch, teacher channels, height, width)."""
        smaller = min(feature.shape[-2], self.size[0]), min(feature.shape[-1], self.size[1])
        if smaller != tuple(feature.shape[-2:]):
            feature = F.adaptive_avg_pool2d(feature, smaller)
        feature = self.project(feature)
        if smaller == self.size:
            return feature
        return F.interpolate(feature, size=self.size, mode="bilinear", align_corners=False)


def adapter_for(student_shape: Sequence[int], teacher_shape: Sequence[int]) -> nn.Module:
    """Choose the adapter that joins two features, by their shapes; the batch comes first in both.

    ========================== ================= =======================================
    student                    teacher           adapter
    ========================== ================= =======================================
    equal                      equal             identity (no parameters)
    (N, C)                     (N, D)            linear
    (N, T, C)                  (N, T, D)         linear on each token
    (N, C, h, w)               (N, D, H, W)      1×1 convolution and resize
    ========================== ================= =======================================

    Raises:
        InputError: when no adapter joins the two.
    """
    student, teacher = tuple(student_shape), tuple(teacher_shape)
    if student[1:] == teacher[1:]:
        return nn.Identity()
    if len(student) == len(teacher) == 4:
        return SpatialAdapter((student[1], teacher[1]), (teacher[2], teacher[3]))
    if len(student) == len(teacher) in (2, 3) and student[1:-1] == teacher[1:-1]:
        return nn.Linear(student[-1], teacher[-1], bias=False)
    raise InputError(
        f"no adapter joins a student feature of shape {_shown(student)} to a teacher feature of shape "
        f"{_shown(teacher)}. Expected two flat features (N, C), two token features (N, T, C) with the same T, "
        "or two spatial ones (N, C, H, W); choose another pair of layers"
    )


def _shown(shape: tuple[int, ...]) -> str:
    return f"({', '.join(['N', *map(str, shape[1:])])})"
