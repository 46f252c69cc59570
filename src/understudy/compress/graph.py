"""Torch-Pruning's view of a network: which channels of which layers depend on each other."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError
from understudy.extras import imported
from understudy.foreign import quiet, reason
from understudy.sources.forward import evaluating
from understudy.taps import unwrapped
from understudy.tasks.task import Task


def answers(network: nn.Module, inputs: Any, task: Task) -> Tensor:
    """The network's logits, in eval mode and with gradients.

    Raises:
        InputError: when it cannot be called with these inputs.
    """
    with evaluating(network), torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            return task.observe(network, Batch(inputs=inputs)).logits
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{type(network).__name__} cannot be called with the example ({_shapes(inputs)}): {reason(error)}. "
                "Give two samples of the shape that it was made for"
            ) from error


def working_copy(network: nn.Module) -> nn.Module:
    """A copy of the network to change, all of whose weights take gradients, which following it needs."""
    return copy.deepcopy(unwrapped(network)).eval().requires_grad_(True)


def like(network: nn.Module, original: nn.Module) -> nn.Module:
    """Put a working copy into the modes that the original's layers have, and freeze what is frozen there."""
    modes = {name: module.training for name, module in unwrapped(original).named_modules()}
    frozen = {name for name, each in unwrapped(original).named_parameters() if not each.requires_grad}
    for name, module in network.named_modules():
        module.training = modes[name]
    for name, parameter in network.named_parameters():
        parameter.grad = None
        parameter.requires_grad_(name not in frozen)
    return network


def traced(network: nn.Module, inputs: Any, task: Task) -> Any:
    """Torch-Pruning's dependency graph of a working copy.

    Raises:
        InputError: without Torch-Pruning, or when it cannot follow the network.
    """
    pruning = imported("torch_pruning", extra="compress", needed_by="structured pruning")
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            graph = pruning.DependencyGraph().build_dependency(
                network, inputs, forward_fn=lambda model, example: answers(model, example, task), verbose=False
            )
    except InputError:
        raise
    except Exception as error:
        where = _blamed(error)
        raise InputError(
            f"Torch-Pruning cannot follow {type(network).__name__}{f', behind its layer {where!r}' if where else ''} "
            f"({type(error).__name__}: {reason(error)}). Write that part with layers and without splitting or "
            "reshaping channels, or use target: {sparsity: …} or a low-rank factorisation, which need no graph"
        ) from error
    _limit(graph, network)
    return graph


class _Limit:
    """Ends a search that follows channels in circles, or makes ever more of them; it maps indices to themselves."""

    def __init__(self, node: Any, calls: list[int], longest: int) -> None:
        self._node, self._calls, self._longest = node, calls, longest

    def __call__(self, indices: Any) -> Any:
        self._calls[0] -= 1
        if self._calls[0] < 0 or len(indices) > self._longest:
            raise InputError(
                f"Torch-Pruning cannot follow the channels behind layer {_layer_before(self._node)!r}: they are "
                "reshaped or reordered there, as in a channel shuffle. Write that part without, or use target: "
                "{sparsity: …} or a low-rank factorisation, which need no graph"
            )
        return indices


def _limit(graph: Any, network: nn.Module) -> None:
    nodes = list(graph.module2node.values())
    calls = [max(100_000, 1000 * sum(len(node.dependencies) for node in nodes))]
    longest = 4 * max((max(each.shape) for each in network.parameters() if each.ndim), default=1)
    for node in nodes:
        for dependency in node.dependencies:
            dependency.index_mapping.append(_Limit(node, calls, longest))


def _blamed(error: Exception) -> str | None:
    """The last layer before the place of the graph that Torch-Pruning failed at."""
    places = [frame.f_locals.get("node") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((layer for place in places if (layer := _layer_before(place)) is not None), None)


def _layer_before(node: Any) -> str | None:
    """The nearest layer before a node of the graph."""
    waiting, seen = [node], set()
    while waiting:
        node = waiting.pop(0)
        if node is None or node in seen or type(node).__name__ != "Node":
            continue
        if isinstance(node.module, nn.Module) and type(node.module).__module__.startswith("torch.nn"):
            return str(node.name).partition(" (")[0]
        seen.add(node)
        waiting += node.inputs
    return None


def _shapes(inputs: Any) -> str:
    if isinstance(inputs, Tensor):
        return f"shape {tuple(inputs.shape)}"
    if isinstance(inputs, Mapping):
        return ", ".join(f"{name}: {_shapes(value)}" for name, value in inputs.items())
    return ", ".join(map(_shapes, inputs)) if isinstance(inputs, tuple | list) else type(inputs).__name__
