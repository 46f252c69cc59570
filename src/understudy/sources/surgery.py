"""Fitting a library's network to the data: its first convolution, its last layer, its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor, nn

from understudy.edits.new_head import convolution_like, with_outputs
from understudy.errors import InputError, listing, nearest


def channels_of(inputs: Any) -> int | None:
    """Channels of a batch of images, None when the inputs are something else."""
    return inputs.shape[1] if isinstance(inputs, Tensor) and inputs.ndim == 4 else None


def match_channels(model: nn.Module, inputs: Any) -> None:
    """Give the first convolution as many input channels as the images have; its weights start at random.

    Args:
        model: changed in place; a network that does not begin with a convolution is left alone.
        inputs: an example batch's inputs.
    """
    channels = channels_of(inputs)
    first = next(((path, module) for path, module in model.named_modules() if isinstance(module, nn.Conv2d)), None)
    if channels is None or first is None or first[1].in_channels == channels:
        return
    path, old = first
    if old.groups != 1:
        raise InputError(
            f"the model wants {old.in_channels} channels, the images have {channels}; set channels: {old.in_channels} "
            "in the data"
        )
    model.set_submodule(path, convolution_like(old, in_channels=channels))


def replace_head(model: nn.Module, *, old: int, new: int) -> None:
    """Exchange the last layer (and those of auxiliary outputs) for one of another size, at random weights.

    Args:
        model: changed in place.
        old: number of classes that it has.
        new: number of classes that it gets.

    Raises:
        InputError: when no layer has ``old`` outputs.
    """
    heads = [
        (path, module)
        for path, module in model.named_modules()
        if (isinstance(module, nn.Linear) and module.out_features == old)
        or (isinstance(module, nn.Conv2d) and module.out_channels == old)
    ]
    if not heads:
        raise InputError(f"expected a last layer with {old} outputs in {type(model).__name__}, found none to replace")
    for path, module in heads:
        model.set_submodule(path, with_outputs(module, new))


def constructed(
    what: str, build: Callable[[], nn.Module], *, arguments: Mapping[str, Any], known: Collection[str]
) -> nn.Module:
    """Call a constructor; what it does not like about its arguments becomes an error for people.

    Args:
        what: the model in words.
        build: makes the model.
        arguments: what the user gave.
        known: names that the constructor is known to take.

    Raises:
        InputError: when the model cannot be built with these arguments.
    """
    try:
        return build()
    except (TypeError, ValueError, KeyError, AssertionError, RuntimeError) as error:
        strangers = [name for name in arguments if name not in known]
        hints = "".join(nearest(name, known) for name in strangers)
        raise InputError(
            f"{what} cannot be built with arguments {dict(arguments)}: {error}{hints}. "
            f"It is known to take {listing(sorted(known), most=12)}"
        ) from error


def parameter_names(*functions: Any) -> list[str]:
    """Names of the arguments that functions (or classes) take, without the catch-alls."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        name
        for function in functions
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in named
    ]
