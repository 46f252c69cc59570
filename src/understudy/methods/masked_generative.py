"""Distillation by generating the teacher's feature from a part of the student's."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Size, Tensor, nn

from understudy.adapters import adapter_for
from understudy.feature_method import FeatureMethod, Form
from understudy.functional.features import hint_loss

Hidden = Literal["channels", "pixels"]


@final
class MaskedGenerative(FeatureMethod):
    r"""From the student's feature, a random part of it hidden, a small network generates the teacher's whole one.

    .. math:: \frac{1}{N} \sum_i \big(G(r(f^S) \odot M)_i - f^T_i\big)^2

    M is 0 with probability λ, drawn anew for each sample in each step from torch's global generator; in eval mode
    nothing is hidden. The network G is a 3×3 convolution, a ReLU and a second 3×3 convolution; where the numbers of
    channels or the sizes differ, r is a 1×1 convolution and a resize. Both train with the student and belong to the
    objective. The formula of the paper hides pixels; the authors' code hides pixels for detection and segmentation
    and whole channels for classification, on the last feature map with λ = 0.15, and that is the default here.

    Scale: the mean over all elements, hidden or not, in the squared unit of the teacher's feature; 0 where what is
    generated equals the teacher's feature. The authors sum over C · H · W and weigh by 0.00007 (classification) or
    0.00002 and less (dense tasks): multiply by C · H · W for the weight here. The gradient goes to the student, to r
    and to G.

    Example:
        >>> MaskedGenerative(hidden="pixels", ratio=0.65)  # doctest: +ELLIPSIS
        MaskedGenerative(kind='masked_generative', weight=1.0, ..., hidden='pixels', ratio=0.65)
    """

    paper: ClassVar[str] = (
        "Yang, Li, Shao, Shi, Yuan, Yuan: Masked Generative Distillation, ECCV 2022 (arXiv:2205.01529)"
    )
    pairing: ClassVar[Literal["stages", "last", "penultimate"]] = "last"
    form: ClassVar[Form] = "map"

    kind: Literal["masked_generative"] = "masked_generative"
    hidden: Hidden = "channels"
    """What is hidden of each sample: whole channels, or pixels through all channels."""
    ratio: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.15
    """λ: the probability with which each of them is; the authors take 0.45 to 0.75 for pixels."""

    def join(self, student: Size, teacher: Size) -> nn.Module:
        """An adapter where one is needed, and the network that generates.

        Raises:
            InputError: when the two shapes do not fit.
        """
        return Generation(adapter_for(student, teacher), teacher[1], self.hidden, self.ratio)


class Generation(nn.Module):
    """The teacher's feature, generated from what is not hidden of the student's.

    Args:
        adapter: brings the student's feature to the teacher's shape.
        channels: of the teacher's feature.
        hidden: what is hidden.
        ratio: how likely.
    """

    def __init__(self, adapter: nn.Module, channels: int, hidden: Hidden, ratio: float) -> None:
        super().__init__()
        self.adapter = adapter
        self.network = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
        )
        self.hidden = hidden
        self.ratio = ratio

    def drawn(self, feature: Tensor) -> Tensor:
        """What to hide of (N, C, H, W): bool (N, C, 1, 1) or (N, 1, H, W)."""
        count, channels, height, width = feature.shape
        shape = (count, channels, 1, 1) if self.hidden == "channels" else (count, 1, height, width)
        return torch.rand(shape, device=feature.device) < self.ratio

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor | None, total: Tensor | None) -> Tensor:
        """The loss of one pair of layers."""
        feature = self.adapter(student)
        if self.training and self.ratio > 0.0:
            feature = feature.masked_fill(self.drawn(feature), 0.0)
        return hint_loss(self.network(feature), teacher.detach(), mask=mask, total=total)
