"""Small networks of our own: a multilayer perceptron and a plain convolutional network."""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from understudy.errors import InputError
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


ARGUMENTS: dict[str, type[Spec]] = {"mlp": MlpArguments, "cnn": CnnArguments}
"""The arguments of each built-in network."""


def build_builtin(name: str, arguments: dict[str, Any], *, classes: int, inputs: Any) -> nn.Module:
    """Build a network of our own for an example batch.

    Args:
        name: ``mlp`` or ``cnn``.
        arguments: as checked by the class in :data:`ARGUMENTS`.
        classes: number of outputs.
        inputs: a tensor, (batch, …) for ``mlp`` and (batch, channels, height, width) for ``cnn``.

    Raises:
        InputError: for inputs that the network cannot take.
    """
    checked = ARGUMENTS[name].model_validate(arguments)
    needed = 4 if name == "cnn" else 2
    if not isinstance(inputs, Tensor) or inputs.ndim < needed:
        shown = f"shape {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else f"a {type(inputs).__name__}"
        expected = "images (batch, channels, height, width)" if name == "cnn" else "a tensor (batch, …)"
        raise InputError(f"the built-in {name} takes {expected}, the data give {shown}; choose another model")
    if isinstance(checked, CnnArguments):
        return cnn(inputs.shape[1], classes, widths=checked.widths)
    assert isinstance(checked, MlpArguments)
    return mlp(
        inputs[0].numel(),
        classes,
        hidden=checked.hidden,
        dropout=checked.dropout,
        input_dropout=checked.input_dropout,
    )
