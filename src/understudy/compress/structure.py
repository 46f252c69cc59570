"""What can be taken out of a network together: channels with all that depends on them, and heads of attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from understudy.compress.attention import Heads, around, attentions, behead, head_count, heads_of
from understudy.compress.graph import like, traced, working_copy
from understudy.errors import InputError
from understudy.foreign import quiet
from understudy.taps import unwrapped
from understudy.tasks.task import Task

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ROOTS = (*_CONVOLUTIONS, nn.Linear)
_MIXING = (nn.LayerNorm, nn.GroupNorm)

Scores = Callable[[Any], Tensor | None]
"""The importance of every channel of a group of the dependency graph; None where it says nothing."""


@dataclass(frozen=True)
class Part:
    """Channels of a layer, with whatever depends on them in other layers.

    Attributes:
        layer: whose outputs they are.
        bundles: indices of channels that leave together: single ones, one of each group, or all of a head.
        importance: (bundles,), comparable between parts.
        is_exact: whether the network without them is the one that does not listen to them. It is not where a
            normalisation over channels averages over fewer.
        heads: the attention, where the bundles are its heads.
    """

    layer: str
    bundles: tuple[tuple[int, ...], ...]
    importance: Tensor
    is_exact: bool
    heads: Heads | None = None


def parts_of(
    network: nn.Module, graph: Any, keep: Sequence[str], scores: Scores, *, output: Tensor
) -> tuple[list[Part], dict[str, str]]:
    """What can be taken out, and why the rest has to stay.

    Args:
        network: the working copy that was traced.
        graph: its dependency graph.
        keep: layers whose outputs stay.
        scores: how important channels are.
        output: the logits of the traced copy.

    Returns:
        The parts, and for each layer that is left whole the reason, in words.

    Raises:
        InputError: for a layer that did not run.
    """
    names = {module: name for name, module in network.named_modules()}
    _check_all_ran(network, names, keep, output)
    attention = attentions(network)
    tied = _tied(network)
    parts, left = [], {}
    with quiet(), torch.no_grad():
        for group in graph.get_all_groups(root_module_types=list(_ROOTS)):
            layer = names[group[0].dep.target.module]
            heads = heads_of(group, graph, names, attention)
            reason = _reason(group, graph, names, keep, attention, tied, heads)
            found = None if reason else _part(layer, group, graph, network, heads, scores)
            if found is not None and len(found.bundles) > 1:
                parts.append(found)
            elif found is not None:
                left[_shown(group, graph, names)] = "it has one channel, or one of each group"
            else:
                left[_shown(group, graph, names)] = reason or "the importance says nothing of it"
    return parts, left


def without(
    network: nn.Module, inputs: Any, task: Task, parts: Sequence[Part], removed: Sequence[Sequence[int]]
) -> nn.Module:
    """A copy of the network without some bundles.

    Args:
        network: left as it is.
        inputs: two samples.
        task: how it is called.
        parts: what can be taken out.
        removed: for each part the numbers of the bundles to take out.
    """
    smaller = working_copy(network)
    graph = traced(smaller, inputs, task)
    chosen = [(part, _channels(part, bundles)) for part, bundles in zip(parts, removed, strict=True) if bundles]
    with quiet():
        for part, channels in chosen:
            if part.heads is None:
                _group(graph, smaller, part.layer, channels).prune()
        for part, channels in chosen:
            if part.heads is not None:
                behead(graph, smaller, part.heads, channels)
    return like(smaller, network)


def silenced(
    network: nn.Module, inputs: Any, task: Task, parts: Sequence[Part], removed: Sequence[Sequence[int]]
) -> nn.Module:
    """A copy of the network in its old size that does not listen to some bundles: what it is without them."""
    silent = working_copy(network)
    graph = traced(silent, inputs, task)
    with quiet(), torch.no_grad():
        for part, bundles in zip(parts, removed, strict=True):
            channels = _channels(part, bundles)
            if part.heads is not None:
                _silence(silent.get_submodule(part.heads.output), channels)
            elif channels:
                for dep, indices in _group(graph, silent, part.layer, channels):
                    if not graph.is_out_channel_pruning_fn(dep.handler):
                        _silence(dep.target.module, indices)
    return like(silent, network)


def widths(network: nn.Module) -> dict[str, int]:
    """How wide every layer is: outputs of convolutions and linear layers, heads of attention."""
    found = {}
    for name, module in unwrapped(network).named_modules():
        if isinstance(module, _CONVOLUTIONS):
            found[name] = module.out_channels
        elif isinstance(module, nn.Linear):
            found[name] = module.out_features
        elif (count := head_count(module)) is not None:
            found[name] = count
    return found


def _part(layer: str, group: Any, graph: Any, network: nn.Module, heads: Heads | None, scores: Scores) -> Part | None:
    exact = not any(isinstance(dep.target.module, _MIXING) for dep, _ in group)
    if heads is not None:
        output = network.get_submodule(heads.output)
        reader = graph.get_pruner_of_module(output).prune_in_channels
        group = graph.get_pruning_group(output, reader, list(range(heads.width)))
    size = len(group[0].idxs)
    importance = scores(group)
    if importance is None:
        return None
    importance = torch.nan_to_num(importance.detach().float().cpu())
    if heads is not None:
        step = size // heads.count
        bundles = tuple(tuple(range(head * step, (head + 1) * step)) for head in range(heads.count))
    else:
        step = size // _channel_groups(group)
        bundles = tuple(tuple(range(first, size, step)) for first in range(step))
    means = torch.stack([importance[list(bundle)].mean() for bundle in bundles])
    return Part(layer, bundles, means, exact, heads)


def _shown(group: Any, graph: Any, names: Mapping[Any, str]) -> str:
    """The first layer of the network whose outputs a group is, and which could have fewer alone."""
    changed = {dep.target.module for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)}
    roots = [name for module, name in names.items() if module in changed and isinstance(module, _ROOTS)]
    alone = [name for module, name in names.items() if name in roots and getattr(module, "groups", 1) == 1]
    return (alone or roots)[0]


def _reason(
    group: Any,
    graph: Any,
    names: Mapping[Any, str],
    keep: Sequence[str],
    attention: Mapping[str, int | None],
    tied: Mapping[nn.Module, str],
    heads: Heads | None,
) -> str | None:
    """Why the channels of a group have to stay, in words."""
    changed = [dep.target for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)]
    modules = [target.module for target in changed]
    read = [dep.target.module for dep, _ in group]
    if any(not target.outputs for target in changed):
        return "it gives the network's output"
    for name in (names[module] for module in modules if module in names):
        for kept in keep:
            if name == kept or name.startswith(f"{kept}."):
                return "it is kept, as asked"
    for module in read:
        if isinstance(module, nn.Module) and module in tied:
            return f"{names[module]!r} shares its weights with {tied[module]!r}"
        if isinstance(module, nn.Parameter):
            return f"the weight {graph._param_to_name[module]!r} belongs to no layer that Torch-Pruning knows"
        if isinstance(module, nn.RNNBase):
            return f"the recurrent layer {names[module]!r} reads it"
        if isinstance(module, nn.MultiheadAttention):
            return f"{names[module]!r} is nn.MultiheadAttention, which cannot lose heads or width"
    if any(isinstance(module, nn.Embedding) for module in modules):
        return "embeddings of tokens are as wide"
    if attention and any(isinstance(module, nn.LayerNorm) for module in modules):
        return "the stream between the blocks of a transformer keeps its width"
    if heads is None and (
        inside := [layer for module in modules if (layer := around(names.get(module, ""), attention))]
    ):
        return None if _is_plain(modules, read, names) else f"heads of {inside[0]!r} are not written in a known way"
    return None


def _is_plain(changed: Sequence[Any], read: Sequence[Any], names: Mapping[Any, str]) -> bool:
    """Whether a group is no more than one layer, and another one that reads all of it."""
    layers = [module for module in read if module in names]
    return (
        sum(module in names for module in changed) == 1
        and len(layers) == 2
        and all(isinstance(module, nn.Linear) for module in layers)
        and layers[0].out_features == layers[1].in_features
    )


def _silence(layer: nn.Module, channels: Sequence[int]) -> None:
    """Zero what a layer does with some of its inputs."""
    if not channels or not isinstance(layer, _ROOTS):
        return
    if isinstance(layer, nn.Linear):
        layer.weight[:, list(channels)] = 0
    elif layer.transposed:
        layer.weight[list(channels)] = 0
    else:
        inputs, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
        for channel in channels:
            group = channel // inputs
            layer.weight[group * outputs : (group + 1) * outputs, channel % inputs] = 0


def _channels(part: Part, bundles: Sequence[int]) -> list[int]:
    return sorted(channel for number in bundles for channel in part.bundles[number])


def _group(graph: Any, network: nn.Module, layer: str, channels: list[int]) -> Any:
    module = network.get_submodule(layer)
    return graph.get_pruning_group(module, graph.get_pruner_of_module(module).prune_out_channels, channels)


def _channel_groups(group: Any) -> int:
    """How many groups of channels have to stay equally large."""
    found = [1]
    for dep, _ in group:
        module = dep.target.module
        if isinstance(module, _CONVOLUTIONS) and module.groups not in (1, module.out_channels):
            found.append(module.groups)
        elif isinstance(module, nn.GroupNorm):
            found.append(module.num_groups)
    return max(found)


def _tied(network: nn.Module) -> dict[nn.Module, str]:
    """Layers that share a weight with another one, and that one's name."""
    owners: dict[nn.Parameter, list[tuple[str, nn.Module]]] = {}
    for name, module in network.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(parameter, []).append((name, module))
    return {
        module: next(other for other, _ in sharing if other != name)
        for sharing in owners.values()
        if len(sharing) > 1
        for name, module in sharing
    }


def _check_all_ran(network: nn.Module, names: Mapping[nn.Module, str], keep: Sequence[str], output: Tensor) -> None:
    parameters = [parameter for parameter in network.parameters() if parameter.is_floating_point()]
    gradients = torch.autograd.grad(output.sum(), parameters, allow_unused=True)
    idle = {parameter for parameter, gradient in zip(parameters, gradients, strict=True) if gradient is None}
    for module, name in names.items():
        own = list(module.parameters(recurse=False))
        if own and idle.issuperset(own) and not any(f"{name}.".startswith(f"{kept}.") for kept in keep):
            raise InputError(
                f"layer {name!r} ({type(module).__name__}) does not run for the example, so that nobody knows which "
                "channels it would read. Take it out of the network, or give an example that passes it; where its "
                f"inputs keep their width anyway, say so with keep: [{name}]"
            )
