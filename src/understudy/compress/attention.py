"""Multi-head attention whose heads can be taken out one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

HEAD_COUNTS = ("num_heads", "num_attention_heads", "n_heads", "n_head")
"""What layers with attention call the number of their heads."""
HEAD_WIDTHS = ("attn_dim", "all_head_size", "inner_dim")
"""What they call the width of all heads together, where they keep it."""


@dataclass(frozen=True)
class Heads:
    """Multi-head attention whose heads can be taken out one by one.

    Attributes:
        layer: the attention.
        count: its heads.
        width: of all heads together.
        inputs: the layers that give queries, keys and values.
        output: the layer that reads all heads.
    """

    layer: str
    count: int
    width: int
    inputs: tuple[str, ...]
    output: str


def attentions(network: nn.Module) -> dict[str, int | None]:
    """Layers with attention, and their heads; None for torch's own, whose heads cannot be taken out."""
    found: dict[str, int | None] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            found[name] = None
        elif (count := head_count(module)) is not None:
            found[name] = count
    return found


def head_count(module: nn.Module) -> int | None:
    """How many heads a layer says that it has; None where it says nothing."""
    counts = [value for name, value in vars(module).items() if name in HEAD_COUNTS]
    return counts[0] if counts and isinstance(counts[0], int) else None


def around(name: str, attention: Mapping[str, int | None]) -> str | None:
    """The innermost attention that a layer is in."""
    return max((layer for layer in attention if name.startswith(f"{layer}.")), key=len, default=None)


def heads_of(group: Any, graph: Any, names: Mapping[Any, str], attention: Mapping[str, int | None]) -> Heads | None:
    """The attention whose queries, keys and values a group of the graph is, if it is nothing else.

    Args:
        group: of layers that depend on each other.
        graph: the dependency graph.
        names: of the network's layers.
        attention: what :func:`attentions` found.
    """
    layers = [(dep, dep.target.module) for dep, _ in group if dep.target.module in names]
    inputs = {module for dep, module in layers if graph.is_out_channel_pruning_fn(dep.handler)}
    outputs = {module for dep, module in layers if not graph.is_out_channel_pruning_fn(dep.handler)}
    if len(outputs) != 1 or not all(isinstance(module, nn.Linear) for module in inputs | outputs):
        return None
    (output,) = outputs
    places = {around(names[module], attention) for module in inputs}
    if len(places) != 1 or (layer := places.pop()) is None:
        return None
    count, width = attention[layer], output.in_features
    shares = [module.out_features / width for module in inputs]
    if count is None or width % count or set(shares) - {1.0, 3.0} or sum(shares) < 3:
        return None
    return Heads(layer, count, width, tuple(sorted(names[module] for module in inputs)), names[output])


def behead(graph: Any, network: nn.Module, heads: Heads, channels: Sequence[int]) -> None:
    """Take channels of whole heads out of an attention, and let it know how many are left.

    Args:
        graph: of the network.
        network: changed in place.
        heads: the attention.
        channels: inputs of its last layer.
    """
    output = network.get_submodule(heads.output)
    graph.get_pruner_of_module(output).prune_in_channels(output, list(channels))
    for path in heads.inputs:
        layer = network.get_submodule(path)
        assert isinstance(layer, nn.Linear)
        copies = layer.out_features // heads.width  # three, where one layer gives queries, keys and values
        rows = [channel + number * heads.width for number in range(copies) for channel in channels]
        graph.get_pruner_of_module(layer).prune_out_channels(layer, rows)
    module = network.get_submodule(heads.layer)
    for name, value in list(vars(module).items()):
        if name in HEAD_COUNTS and value == heads.count:
            setattr(module, name, heads.count - len(channels) * heads.count // heads.width)
        elif name in HEAD_WIDTHS and value == heads.width:
            setattr(module, name, heads.width - len(channels))
