"""Calling a model with a batch's inputs, and leaving it as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from understudy.errors import InputError


def call(model: nn.Module, inputs: Any) -> Any:
    """Call a model with a tensor, a tuple of positional or a mapping of keyword arguments."""
    if isinstance(inputs, Tensor):
        return model(inputs)
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


def each_tensor(inputs: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The same structure of inputs with a function applied to its tensors."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    if isinstance(inputs, Mapping):
        return {name: each_tensor(value, function) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        return tuple(each_tensor(value, function) for value in inputs)
    return inputs


def moved(inputs: Any, device: torch.device | str) -> Any:
    """The same inputs on another device."""
    return each_tensor(inputs, lambda tensor: tensor.to(device))


def resized(inputs: Any, count: int) -> Any:
    """Exactly ``count`` samples of a batch's inputs; its samples are repeated when it has fewer.

    Raises:
        InputError: for a count below one, or inputs without a sample.
    """
    if count < 1:
        raise InputError(f"expected a batch of one or more samples, got {count}")

    def take(tensor: Tensor) -> Tensor:
        if tensor.ndim == 0 or len(tensor) == 0:
            raise InputError(f"expected inputs with at least one sample, got a tensor of shape {tuple(tensor.shape)}")
        return tensor[torch.arange(count, device=tensor.device) % len(tensor)]

    return each_tensor(inputs, take)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter (or buffer) is; the CPU when it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in eval mode; afterwards every submodule is in the mode that it had before."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, training in modes:
            module.training = training
