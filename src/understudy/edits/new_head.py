"""A network whose last layer was exchanged for one of other classes."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import Field
from torch import nn

from understudy.edits.edit import Edit
from understudy.errors import InputError


@final
class NewHead(Edit):
    """Which layers give the logits, and how many classes they have now.

    Example:
        >>> NewHead(layers=("1",), classes=3).replay(nn.Sequential(nn.Flatten(), nn.Linear(8, 10)), None)
        Sequential(
          (0): Flatten(start_dim=1, end_dim=-1)
          (1): Linear(in_features=8, out_features=3, bias=True)
        )
    """

    becomes: ClassVar[str] = "with a new head"
    kind: Literal["new_head"] = "new_head"
    layers: tuple[str, ...]
    """By path."""
    classes: Annotated[int, Field(gt=0)]
    """Outputs of each."""

    def replay(self, network: nn.Module, inputs: Any) -> nn.Module:  # noqa: ARG002
        """Put heads with random weights in the place of the old ones.

        Args:
            network: changed in place.
            inputs: not needed.

        Raises:
            InputError: when it does not have these layers, or they are neither linear layers nor convolutions.
        """
        for path in self.layers:
            network.set_submodule(path, with_outputs(self.layer_of(network, path), self.classes))
        return network


def with_outputs(layer: nn.Module, count: int) -> nn.Module:
    """A layer like a linear one or a convolution, with random weights and another number of outputs.

    Raises:
        InputError: for another layer.
    """
    if isinstance(layer, nn.Linear):
        new: nn.Module = nn.Linear(layer.in_features, count, bias=layer.bias is not None)
    elif isinstance(layer, nn.Conv2d):
        new = convolution_like(layer, out_channels=count)
    else:
        raise InputError(f"a head is a linear layer or a convolution, this one is {type(layer).__name__}")
    weight = layer.get_parameter("weight")
    return new.to(weight.device, weight.dtype)


def convolution_like(old: nn.Conv2d, *, in_channels: int | None = None, out_channels: int | None = None) -> nn.Conv2d:
    """A convolution with random weights and another number of channels, otherwise like an old one."""
    assert not isinstance(old.padding, str)
    return nn.Conv2d(
        in_channels or old.in_channels,
        out_channels or old.out_channels,
        kernel_size=old.kernel_size,  # pyright: ignore[reportArgumentType] - a tuple of two
        stride=old.stride,  # pyright: ignore[reportArgumentType]
        padding=old.padding,  # pyright: ignore[reportArgumentType]
        dilation=old.dilation,  # pyright: ignore[reportArgumentType]
        groups=old.groups,
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
    )
