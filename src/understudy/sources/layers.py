"""What a model is made of, as taps name it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from understudy.sources.forward import call, device_of, evaluating, moved
from understudy.taps import unwrapped


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a model, or one of several outputs of it.

    Attributes:
        path: what a tap is written as: the dotted path, with ``:0`` or ``:name`` where the layer gives several.
        type: class name of the layer.
        output_shape: shape that it gave for the example, the batch first; None when it did not run or gave no tensor.
        parameters: number of parameters in it and below it, shared ones counted once.
    """

    path: str
    type: str
    output_shape: tuple[int, ...] | None
    parameters: int


def layers(model: nn.Module, inputs: Any) -> list[Layer]:
    """List the layers of a model in their order in the module tree, with shapes seen in one forward pass.

    The model, its modes and its random state are left as they were.

    Args:
        model: any network; wrappers such as ``torch.compile`` are looked through.
        inputs: an example batch's inputs.
    """
    inner = unwrapped(model)
    outputs: dict[str, Any] = {}

    def remember(path: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, _inputs, output: outputs.update({path: output})

    modules = [(path, module) for path, module in inner.named_modules() if path]
    handles = [module.register_forward_hook(remember(path)) for path, module in modules]
    try:
        with evaluating(inner), torch.no_grad(), torch.random.fork_rng(devices=[]):
            call(inner, moved(inputs, device_of(inner)))
    finally:
        for handle in handles:
            handle.remove()
    return [layer for path, module in modules for layer in _rows(path, module, outputs.get(path))]


def _rows(path: str, module: nn.Module, output: Any) -> list[Layer]:
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return [Layer(path + selector, type(module).__name__, shape, parameters) for selector, shape in _shapes(output)]


def _shapes(output: Any) -> list[tuple[str, tuple[int, ...] | None]]:
    if isinstance(output, Tensor):
        return [("", tuple(output.shape))]
    items = (
        output.items() if isinstance(output, Mapping) else enumerate(output) if isinstance(output, tuple | list) else ()
    )
    found = [(f":{key}", tuple(item.shape)) for key, item in items if isinstance(item, Tensor)]
    return [*found] or [("", None)]
