"""Distillation of a teacher's layers from all deeper ones of the student."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Size, Tensor, nn

from understudy.batch import Batch
from understudy.feature_method import FeatureMethod, Form, compared
from understudy.functional.geometry import precise
from understudy.functional.review import hierarchical_context_loss
from understudy.gathering import gathered, process_count
from understudy.knowledge import Knowledge, Shapes

_EPSILON = 1e-5


@final
class Review(FeatureMethod):
    r"""Each teacher layer is regressed by the student's layer and all that follow it, fused from the deepest on.

    .. math:: \sum_l \mathrm{HCL}\big(c_l(h_l), f^T_l\big),
        \quad h_l = a_l \odot p_l(f^S_l) + b_l \odot h_{l+1}, \quad (a_l, b_l) = \sigma(w_l [p_l(f^S_l), h_{l+1}])

    The layers go from the shallowest to the deepest, of which :math:`h_L = p_L(f^S_L)`. Here p is a 1×1 convolution
    to a common number of channels, w one to two attention maps, c a 3×3 convolution to the teacher's channels; p and
    c end in a batch normalisation. The hierarchical context loss HCL also compares averages over coarser grids. What
    is reviewed comes in the shallower layer's size (nearest pixels); where a map shrinks to the teacher's size it is
    averaged, where the authors take the nearest pixel. As in the authors' code HCL is the mean over all elements and
    over its weights. They also give it the pooled feature before the classifier as the deepest pair (name it as the
    last layer), and raise the weight linearly over the first epochs: give it a schedule for that. The batch
    normalisations use the samples that count, of all processes, which couples the samples of a batch.

    Scale: a sum over the layers of means over elements, in the squared unit of the teacher's features; 0 where each
    fused feature equals the teacher's. Weigh it per teacher: the authors take 0.6 to 8. The gradient goes to the
    student and to the fusion, which trains with the student and belongs to the objective.

    Example:
        >>> Review(student_layer=("layer3", "layer4"), teacher_layer=("layer3", "layer4"))  # doctest: +ELLIPSIS
        Review(kind='review', weight=1.0, ..., most_channels=512)
    """

    paper: ClassVar[str] = (
        "Chen, Liu, Zhao, Jia: Distilling Knowledge via Knowledge Review, CVPR 2021 (arXiv:2104.09044)"
    )
    batch_coupled: ClassVar[bool] = True
    form: ClassVar[Form] = "map"

    kind: Literal["review"] = "review"
    most_channels: Annotated[int, Field(gt=0)] = 512
    """The common number of channels is that of the student's deepest layer, but not more than this."""

    def build(self, shapes: Shapes) -> nn.Module:
        """The fusion of all layers.

        Raises:
            InputError: naming every pair of layers that cannot be read as maps.
        """
        read = self.of_each_pair(shapes, lambda form, student, teacher: (form, student, teacher))
        width = min(self.most_channels, read[-1][1][1])
        fusions = [
            Fusion(student, teacher, width, fuses=pair is not read[-1])
            for pair in read
            for _, student, teacher in [pair]
        ]
        return Reviewed(self, [form for form, *_ in read], fusions)


class Reviewed(nn.Module):
    """All pairs of layers, from the deepest to the shallowest."""

    def __init__(self, method: Review, forms: Sequence[Form], fusions: Sequence[Fusion]) -> None:
        super().__init__()
        self.method = method
        self.forms = tuple(forms)
        self.fusions = nn.ModuleList(fusions)

    def forward(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """The sum over the pairs."""
        pairs = compared(self.method, self.forms, student, teacher, batch)
        deeper, losses = None, []
        for fusion, (feature, answer, mask, total) in zip(reversed(self.fusions), reversed(pairs), strict=True):
            deeper, generated = fusion(feature, deeper, mask)
            losses.append(hierarchical_context_loss(generated, answer, mask=mask, total=total))
        return torch.stack(losses).sum()


class Fusion(nn.Module):
    """One layer of the student with what was reviewed of the deeper ones.

    Args:
        student: shape of the student's map, the batch first.
        teacher: the same of the teacher's.
        width: channels of what is reviewed.
        fuses: whether there are deeper layers.
    """

    def __init__(self, student: Size, teacher: Size, width: int, *, fuses: bool) -> None:
        super().__init__()
        self.enter = nn.Conv2d(student[1], width, kernel_size=1, bias=False)
        self.enter_norm = BatchNormalisation(width)
        self.attention = nn.Conv2d(2 * width, 2, kernel_size=1) if fuses else None
        self.leave = nn.Conv2d(width, teacher[1], kernel_size=3, padding=1, bias=False)
        self.leave_norm = BatchNormalisation(teacher[1])
        self.size = int(teacher[2]), int(teacher[3])
        for convolution in (self.enter, self.leave):
            nn.init.kaiming_uniform_(convolution.weight, a=1)

    def forward(self, feature: Tensor, deeper: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """What is reviewed by the next shallower layer, (n, width, H, W), and the prediction of the teacher's map."""
        reviewed = self.enter_norm(self.enter(feature), mask)
        if self.attention is not None and deeper is not None:
            deeper = F.interpolate(deeper, size=reviewed.shape[2:], mode="nearest")
            share = self.attention(torch.cat([reviewed, deeper], dim=1)).sigmoid()
            reviewed = share[:, :1] * reviewed + share[:, 1:] * deeper
        reviewed = _resized(reviewed, self.size)
        return reviewed, self.leave_norm(self.leave(reviewed), mask)


class BatchNormalisation(nn.Module):
    """A batch normalisation by the rows that count, of all processes; it keeps no averages, and knows no eval mode."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, feature: Tensor, mask: Tensor | None) -> Tensor:
        """Each channel of (n, channels, H, W) with mean ``bias`` and deviation ``weight``."""
        values = precise(feature)
        if mask is None and process_count() == 1 and values.numel() > values.shape[1]:
            weight, bias = precise(self.weight), precise(self.bias)
            normal = F.batch_norm(values, None, None, weight, bias, training=True, eps=_EPSILON)
            return normal.to(feature.dtype)  # the same as below, in a fraction of the passes over memory
        counts = values.new_ones(len(values)) if mask is None else mask.to(values.dtype)
        counts = counts[:, None, None, None]
        pixels = (counts.sum() * values.shape[2] * values.shape[3]).reshape(1)
        here = (counts * values).sum((0, 2, 3)) / pixels.clamp_min(1.0)
        squares = (counts * (values - here[:, None, None]).square()).sum((0, 2, 3))
        shares, means, spreads = gathered(torch.cat([pixels, here, squares])[None]).split(
            [1, *(2 * [len(here)])], dim=1
        )
        every = shares.sum().clamp_min(1.0)
        mean = (shares * means).sum(0) / every
        variance = (spreads + shares * (means - mean).square()).sum(0) / every
        scale = precise(self.weight) * (variance + _EPSILON).rsqrt()
        normal = (values - mean[:, None, None]) * scale[:, None, None] + precise(self.bias)[:, None, None]
        return normal.to(feature.dtype)


def _resized(feature: Tensor, size: tuple[int, int]) -> Tensor:
    """A map at another size: averaged where it shrinks, its pixels repeated where it grows."""
    smaller = min(feature.shape[2], size[0]), min(feature.shape[3], size[1])
    if smaller != tuple(feature.shape[2:]):
        feature = F.adaptive_avg_pool2d(feature, smaller)
    return feature if smaller == size else F.interpolate(feature, size=size, mode="nearest")
