"""A student with its teacher's classifier, frozen behind a projector."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, final

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from understudy.edits.edit import Edit

Count = Annotated[int, Field(gt=0)]


@final
class ReusedHead(Edit):
    """What was changed in a student that :func:`~understudy.reuse_head` was given.

    Example:
        >>> import torch
        >>> edit = ReusedHead(layer="0", classifier="3", channels=(4, 8), size=(2, 2), classes=3, bias=True)
        >>> student = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
        >>> images = torch.rand(2, 3, 4, 4)
        >>> edit.replay(student, images)(images).shape
        torch.Size([2, 3])
    """

    becomes: ClassVar[str] = "with its teacher's classifier"
    kind: Literal["reused_head"] = "reused_head"
    layer: str
    """Path of the student's last map, behind which the projector was put."""
    classifier: str
    """Path of the student's last layer, in whose place the teacher's was put."""
    channels: tuple[Count, Count]
    """Of the student's last map and of the teacher's."""
    size: tuple[Count, Count]
    """Height and width of the teacher's last map; a larger one of the student is averaged down to it."""
    factor: Count = 2
    """By how much the projector's inner channels are fewer than the teacher's."""
    classes: Count
    """Outputs of the classifier."""
    bias: bool
    """Whether the classifier has one."""

    @property
    def projector(self) -> str:
        """Path of the projector in the changed student: the layer to compare with the teacher's last map."""
        return f"{self.layer}.projector"

    def replay(self, network: nn.Module, inputs: Any) -> nn.Module:  # noqa: ARG002
        """Change a fresh student in the same way; its projector and its frozen classifier start at random.

        Args:
            network: changed in place.
            inputs: not needed.

        Raises:
            InputError: when it does not have these layers.
        """
        layer, old = self.layer_of(network, self.layer), self.layer_of(network, self.classifier)
        first = next(network.parameters())
        new = (
            nn.Linear(self.channels[1], self.classes, bias=self.bias)
            if isinstance(old, nn.Linear)
            else nn.Conv2d(self.channels[1], self.classes, kernel_size=1, bias=self.bias)
        )
        network.set_submodule(self.layer, Projected(layer, self).to(first.device, first.dtype))
        network.set_submodule(self.classifier, new.requires_grad_(False).to(first.device, first.dtype))
        return network


class Projected(nn.Module):
    """A student's last map, brought to the channels of the teacher's: averaged down to its size, then three layers.

    Args:
        layer: gives the map.
        edit: the channels and sizes.
    """

    def __init__(self, layer: nn.Module, edit: ReusedHead) -> None:
        super().__init__()
        self.layer = layer
        self.size = edit.size
        own, other = edit.channels
        inner = max(1, other // edit.factor)
        self.projector = nn.Sequential(
            *_step(own, inner, kernel=1), *_step(inner, inner, kernel=3), *_step(inner, other, kernel=1)
        )

    def forward(self, *inputs: Any) -> Tensor:
        """(batch, student's channels, h, w) of the layer to (batch, teacher's channels, ≤ height, ≤ width)."""
        feature = self.layer(*inputs)
        smaller = min(feature.shape[-2], self.size[0]), min(feature.shape[-1], self.size[1])
        if smaller != tuple(feature.shape[-2:]):
            feature = F.adaptive_avg_pool2d(feature, smaller)
        return self.projector(feature)


def _step(before: int, after: int, *, kernel: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(before, after, kernel_size=kernel, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=False)
