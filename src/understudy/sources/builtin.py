"""Networks of our own: a perceptron, a convolutional network, a residual one for small images; and those for texts."""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Any, final

from pydantic import Field
from torch import Tensor, nn

from understudy.errors import InputError
from understudy.sources.text_networks import TEXT_ARGUMENTS, describe_text_network
from understudy.spec import Spec

Width = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0.0, lt=1.0)]


class MlpArguments(Spec):
    """What ``arguments`` of the built-in ``mlp`` may hold."""

    hidden: tuple[Width, ...]
    """Units of each hidden layer, from the input on; empty for a linear model."""
    dropout: Probability = 0.0
    """Probability with which a hidden unit is dropped in training."""
    input_dropout: Probability = 0.0
    """Probability with which an input value is dropped in training."""


class CnnArguments(Spec):
    """What ``arguments`` of the built-in ``cnn`` may hold."""

    widths: Annotated[tuple[Width, ...], Field(min_length=1)]
    """Channels of each block, from the input on."""


class ResnetArguments(Spec):
    """What ``arguments`` of the built-in ``resnet`` may hold."""

    widths: Annotated[tuple[Width, ...], Field(min_length=1)] = (64, 128, 256, 512)
    """Channels of each stage, from the input on."""
    blocks: Width = 2
    """Blocks of two convolutions in each stage."""


def mlp(
    inputs: int, classes: int, *, hidden: tuple[int, ...], dropout: float = 0.0, input_dropout: float = 0.0
) -> nn.Sequential:
    """A perceptron with ReLU units that flattens whatever it is given.

    Layers: ``flatten``, ``input_dropout``, then ``hidden1``, ``relu1``, ``dropout1`` and so on, then ``head``.

    Args:
        inputs: values per sample, after flattening.
        classes: number of outputs.
        hidden: units of each hidden layer.
        dropout: probability of dropping a hidden unit.
        input_dropout: probability of dropping an input value.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    if input_dropout:
        layers["input_dropout"] = nn.Dropout(input_dropout)
    width = inputs
    for number, units in enumerate(hidden, start=1):
        layers[f"hidden{number}"] = nn.Linear(width, units)
        layers[f"relu{number}"] = nn.ReLU()
        if dropout:
            layers[f"dropout{number}"] = nn.Dropout(dropout)
        width = units
    layers["head"] = nn.Linear(width, classes)
    return nn.Sequential(layers)


def cnn(inputs: int, classes: int, *, widths: tuple[int, ...]) -> nn.Sequential:
    """Blocks of 3×3 convolution, batch norm, ReLU and 2×2 max pooling, then the mean over the image.

    Layers: ``block1``, ``block2`` and so on, ``pool``, ``flatten``, ``head``. The last block does not pool. Images may
    have any size.

    Args:
        inputs: channels of the images.
        classes: number of outputs.
        widths: channels of each block.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = inputs
    for number, width in enumerate(widths, start=1):
        block: OrderedDict[str, nn.Module] = OrderedDict(
            conv=nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False),
            norm=nn.BatchNorm2d(width),
            relu=nn.ReLU(),
        )
        if number < len(widths):
            # Rounding up keeps at least one pixel, however small the image and however many the blocks.
            block["pool"] = nn.MaxPool2d(2, ceil_mode=True)
        layers[f"block{number}"] = nn.Sequential(block)
        channels = width
    layers |= OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), head=nn.Linear(channels, classes))
    return nn.Sequential(layers)


def resnet(inputs: int, classes: int, *, widths: tuple[int, ...], blocks: int) -> nn.Sequential:
    """Residual blocks of two 3×3 convolutions behind a 3×3 stem that keeps the size of the image.

    Layers: ``stem``, ``stage1`` with ``block1``, ``block2`` and so on, ``stage2`` and so on, ``pool``, ``flatten``,
    ``head``. Every stage but the first halves the image. With the usual arguments it is the ResNet-18 that the field
    trains on images of 32 pixels; widths of 16, 32 and 64 with 3 blocks are ResNet-20.

    Args:
        inputs: channels of the images.
        classes: number of outputs.
        widths: channels of each stage.
        blocks: in each stage.

    References:
        He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016 (arXiv:1512.03385), § 4.2; the
        shortcuts that change the size are 1×1 convolutions (option B).
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(_convolution(inputs, widths[0]), nn.ReLU()))
    channels = widths[0]
    for number, width in enumerate(widths, start=1):
        stage: OrderedDict[str, nn.Module] = OrderedDict()
        for place in range(1, blocks + 1):
            stage[f"block{place}"] = ResidualBlock(channels, width, stride=2 if number > 1 and place == 1 else 1)
            channels = width
        layers[f"stage{number}"] = nn.Sequential(stage)
    layers |= OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), head=nn.Linear(channels, classes))
    network = nn.Sequential(layers)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return network


@final
class ResidualBlock(nn.Module):
    """Two convolutions whose result is added to what went in.

    Args:
        inputs: channels that go in.
        width: channels that come out.
        stride: of the first convolution.
    """

    def __init__(self, inputs: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.first, self.relu1 = _convolution(inputs, width, stride=stride), nn.ReLU()
        self.second, self.relu2 = _convolution(width, width), nn.ReLU()
        same = stride == 1 and inputs == width
        self.shortcut = nn.Identity() if same else _convolution(inputs, width, size=1, stride=stride)

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, inputs, h, w) to (batch, width, h / stride, w / stride), rounded up."""
        return self.relu2(self.second(self.relu1(self.first(inputs))) + self.shortcut(inputs))


def _convolution(inputs: int, width: int, *, size: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, width, kernel_size=size, stride=stride, padding=size // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=convolution, norm=nn.BatchNorm2d(width)))


ARGUMENTS: dict[str, type[Spec]] = {
    "mlp": MlpArguments,
    "cnn": CnnArguments,
    "resnet": ResnetArguments,
    **TEXT_ARGUMENTS,
}
"""The arguments of each built-in network."""


def describe_builtin(name: str, arguments: dict[str, Any]) -> str:
    """The sizes of a network of our own in a few words: ``800-800``, ``linear``, ``16-32-64, 3 blocks each``.

    Args:
        name: of the network.
        arguments: as :func:`build_builtin` takes them.
    """
    if name in TEXT_ARGUMENTS:
        return describe_text_network(name, arguments)
    checked = ARGUMENTS[name].model_validate(arguments)
    match checked:
        case ResnetArguments():
            return f"{'-'.join(map(str, checked.widths))}, {checked.blocks} blocks each"
        case CnnArguments():
            return "-".join(map(str, checked.widths))
        case _:
            assert isinstance(checked, MlpArguments)
            return "-".join(map(str, checked.hidden)) or "linear"


def build_builtin(name: str, arguments: dict[str, Any], *, classes: int, inputs: Any) -> nn.Module:
    """Build a network of our own for an example batch.

    Args:
        name: ``mlp``, ``cnn`` or ``resnet``; those for texts are built by :func:`build_text_network`.
        arguments: as checked by the class in :data:`ARGUMENTS`.
        classes: number of outputs.
        inputs: a tensor, (batch, …) for ``mlp`` and (batch, channels, height, width) for the others.

    Raises:
        InputError: for inputs that the network cannot take.
    """
    if name in TEXT_ARGUMENTS:
        raise InputError(f"the built-in {name} reads texts, and the data are none; say `task: text_classification`")
    checked = ARGUMENTS[name].model_validate(arguments)
    needed = 2 if name == "mlp" else 4
    if not isinstance(inputs, Tensor) or inputs.ndim < needed:
        shown = f"shape {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else f"a {type(inputs).__name__}"
        expected = "a tensor (batch, …)" if name == "mlp" else "images (batch, channels, height, width)"
        raise InputError(f"the built-in {name} takes {expected}, the data give {shown}; choose another model")
    if isinstance(checked, CnnArguments):
        return cnn(inputs.shape[1], classes, widths=checked.widths)
    if isinstance(checked, ResnetArguments):
        return resnet(inputs.shape[1], classes, widths=checked.widths, blocks=checked.blocks)
    assert isinstance(checked, MlpArguments)
    return mlp(
        inputs[0].numel(),
        classes,
        hidden=checked.hidden,
        dropout=checked.dropout,
        input_dropout=checked.input_dropout,
    )
