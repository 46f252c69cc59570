"""The input normalisation of a model, carried by the model itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from understudy.errors import InputError
from understudy.spec import Spec
from understudy.taps import unwrapped

_MEAN = "input_mean"
_STD = "input_std"


@final
class Preprocess(Spec):
    """What a model does to its inputs first: ``(input - mean) / std``, per channel.

    Images come in [0, 1]; two models that share a batch may well want different normalisations.
    """

    mean: Annotated[tuple[float, ...], Field(min_length=1)]
    """One value per channel (or per column of a vector), or a single one for all."""
    std: Annotated[tuple[Annotated[float, Field(gt=0.0)], ...], Field(min_length=1)]
    """The same for the divisor; above zero."""

    @model_validator(mode="after")
    def _same_length(self) -> Preprocess:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} values and std has {len(self.std)}; expected equally many")
        return self


@final
class InputNormalization:
    """A forward pre-hook that normalises the first floating-point tensor of a call.

    Mean and std are computed with as buffers of the model that are not saved, so that they move with the model, and
    copies, data-parallel wrappers, ``torch.compile`` and ``torch.export`` see an ordinary computation.

    Args:
        preprocess: what the buffers were made from.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess

    def __call__(
        self, module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the call, with one of them normalised."""
        for index, value in enumerate(positional):
            if _is_float(value):
                return (*positional[:index], self._normalized(module, value), *positional[index + 1 :]), named
        for name, value in named.items():
            if _is_float(value):
                return positional, {**named, name: self._normalized(module, value)}
        return positional, named

    def _normalized(self, module: nn.Module, inputs: Tensor) -> Tensor:
        shape = (1, -1) + (1,) * (inputs.ndim - 2)
        mean, std = module.get_buffer(_MEAN), module.get_buffer(_STD)
        return (inputs - mean.view(shape)) / std.view(shape)


def normalize_inputs(model: nn.Module, preprocess: Preprocess | None) -> nn.Module:
    """Let the model normalise its own inputs; its ``state_dict`` and layer paths stay as they are.

    Args:
        model: changed in place; a normalisation that it already carries is replaced.
        preprocess: the normalisation, None for none.

    Returns:
        The model.
    """
    inner = unwrapped(model)
    for key, hook in list(inner._forward_pre_hooks.items()):
        if isinstance(hook, InputNormalization):
            del inner._forward_pre_hooks[key]
            inner._forward_pre_hooks_with_kwargs.pop(key, None)
            del inner._buffers[_MEAN], inner._buffers[_STD]
    if preprocess is not None:
        reference = next(inner.parameters(), torch.empty(0))
        for name, values in ((_MEAN, preprocess.mean), (_STD, preprocess.std)):
            inner.register_buffer(name, torch.tensor(values, device=reference.device), persistent=False)
        inner.register_forward_pre_hook(InputNormalization(preprocess), with_kwargs=True)
    return model


def preprocess_of(model: nn.Module) -> Preprocess | None:
    """The normalisation that a model carries, None when it takes its inputs as they come."""
    hooks = unwrapped(model)._forward_pre_hooks.values()
    return next((hook.preprocess for hook in hooks if isinstance(hook, InputNormalization)), None)


def check_preprocess(preprocess: Preprocess | None, inputs: Any) -> None:
    """Compare a normalisation with the inputs it is meant for.

    Args:
        preprocess: the normalisation.
        inputs: an example batch's inputs.

    Raises:
        InputError: when the number of channels differs.
    """
    values = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else (inputs,)
    tensor = next((value for value in values if _is_float(value)), None)
    if preprocess is None or tensor is None or tensor.ndim < 2 or len(preprocess.mean) in (1, tensor.shape[1]):
        return
    raise InputError(
        f"preprocess has {len(preprocess.mean)} values of mean and std, but the inputs have {tensor.shape[1]} "
        f"channels (shape {('N', *tensor.shape[1:])}). Give {tensor.shape[1]} values, or one for all"
    )


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
