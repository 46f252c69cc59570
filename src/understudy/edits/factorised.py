"""A network in which layers were replaced by products of smaller ones."""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import Field
from torch import nn

from understudy.edits.edit import Edit
from understudy.errors import InputError

Rank = Annotated[int, Field(gt=0)]
Ranks = tuple[Rank] | tuple[Rank, Rank]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""What can be factorised beside ``nn.Linear``; only these very classes, since others may use their weight otherwise."""


@final
class Factorised(Edit):
    """The ranks of the layers that became products, whatever chose them.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.Flatten(), nn.Linear(64, 10))
        >>> Factorised(layers={"0": (4, 2), "2": (5,)}).replay(network, None)
        Sequential(
          (0): Sequential(
            (first): Conv2d(8, 2, kernel_size=(1, 1), stride=(1, 1), bias=False)
            (core): Conv2d(2, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
            (last): Conv2d(4, 16, kernel_size=(1, 1), stride=(1, 1))
          )
          (1): Flatten(start_dim=1, end_dim=-1)
          (2): Sequential(
            (first): Linear(in_features=64, out_features=5, bias=False)
            (last): Linear(in_features=5, out_features=10, bias=True)
          )
        )
    """

    becomes: ClassVar[str] = "factorised"
    kind: Literal["factorised"] = "factorised"
    layers: dict[str, Ranks]
    """By path: one rank for two factors; those of the outputs and of the inputs for a convolution between two factors,
    of which one with a full rank is left out."""

    def replay(self, network: nn.Module, inputs: Any) -> nn.Module:  # noqa: ARG002
        """Put untrained factors in the place of the layers.

        Args:
            network: changed in place.
            inputs: not needed.

        Raises:
            InputError: when it does not have these layers, or not as ones that can have these ranks.
        """
        for path, ranks in self.layers.items():
            layer = self.layer_of(network, path)
            if problem := _misfit(layer, ranks):
                raise InputError(f"the structural edit {self.kind!r} gives {path!r} the ranks {ranks}; {problem}")
            network.set_submodule(path, factors_of(layer, ranks))
        return network


def factors_of(layer: nn.Module, ranks: Ranks) -> nn.Sequential:
    """Layers whose composition can be the best approximation of a layer with these ranks; their weights are random.

    A linear layer becomes two, a 1×1 convolution too; any other convolution a 1×1 one (``first``), one with its window
    and stride (``core``) and a 1×1 one (``last``). The first ones have no bias; type, device and what trains are those
    of the layer.

    Args:
        layer: an ``nn.Linear`` or a convolution that is not grouped.
        ranks: see :attr:`Factorised.layers`.
    """
    made = _convolutions(layer, ranks) if type(layer) in CONVOLUTIONS else _linears(layer, ranks)
    weight = layer.get_parameter("weight")
    factors = nn.Sequential(OrderedDict(made)).to(weight.device, weight.dtype).train(layer.training)
    for name, parameter in factors.named_parameters():
        parameter.requires_grad_(layer.get_parameter(name.rpartition(".")[2]).requires_grad)
    return factors


def is_pointwise(layer: nn.Module) -> bool:
    """Whether it is a linear map of each position alone: a linear layer, or a convolution with a window of 1."""
    window = getattr(layer, "kernel_size", (1,))
    return all(size == 1 for size in window)


def _linears(layer: Any, ranks: Ranks) -> dict[str, nn.Module]:
    return {
        "first": nn.Linear(layer.in_features, ranks[0], bias=False),
        "last": nn.Linear(ranks[0], layer.out_features, bias=layer.bias is not None),
    }


def _convolutions(layer: Any, ranks: Ranks) -> dict[str, nn.Module]:
    make, bias = type(layer), layer.bias is not None
    window = {
        "kernel_size": layer.kernel_size,
        "stride": layer.stride,
        "padding": layer.padding,
        "dilation": layer.dilation,
        "padding_mode": layer.padding_mode,
    }
    if len(ranks) == 1:
        first = make(layer.in_channels, ranks[0], bias=False, **window)
        return {"first": first, "last": make(ranks[0], layer.out_channels, kernel_size=1, bias=bias)}
    outputs, inputs = ranks
    is_last = outputs == layer.out_channels
    made: dict[str, nn.Module] = {}
    if inputs < layer.in_channels:
        made["first"] = make(layer.in_channels, inputs, kernel_size=1, bias=False)
    made["core"] = make(inputs, outputs, bias=bias and is_last, **window)
    if not is_last:
        made["last"] = make(outputs, layer.out_channels, kernel_size=1, bias=bias)
    return made


def _misfit(layer: nn.Module, ranks: Ranks) -> str:
    """What keeps a layer from having these ranks, if anything."""
    if type(layer) is not nn.Linear and (type(layer) not in CONVOLUTIONS or getattr(layer, "groups", 1) != 1):
        return f"it is a {type(layer).__name__}, expected a linear layer or a convolution that is not grouped"
    sizes = tuple(layer.get_parameter("weight").shape[:2])
    if len(ranks) == 1 and not is_pointwise(layer):
        return "it is a convolution with a window, expected two ranks, of its outputs and of its inputs"
    if len(ranks) == 2 and type(layer) is nn.Linear:
        return "it is a linear layer, expected one rank"
    most = (min(sizes),) if len(ranks) == 1 else sizes
    if any(rank > size for rank, size in zip(ranks, most, strict=True)):
        return f"its weight has {sizes[0]} outputs and {sizes[1]} inputs, expected ranks up to {most}"
    return ""
