"""What a model does to its inputs first, carried by the model itself: normalisation, or tokens of texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, final

import torch
from pydantic import Discriminator, Field, Tag, model_validator
from torch import Tensor, nn

from understudy.errors import InputError
from understudy.sources.token_limits import fitting, pad_alike, tell_apart
from understudy.sources.tokenizers import open_tokens
from understudy.spec import Spec
from understudy.taps import unwrapped
from understudy.tokenizing import Bytes, TextTokenization, Tokenizer, Words, are_texts, are_tokens, tokenization_of

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


def _named(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
    return "normalisation" if kind is None else str(kind)


AnyPreprocess = Annotated[
    Annotated[Preprocess, Tag("normalisation")]
    | Annotated[Words, Tag("words")]
    | Annotated[Bytes, Tag("bytes")]
    | Annotated[Tokenizer, Tag("tokenizer")],
    Discriminator(
        _named,
        custom_error_type="preprocess",
        custom_error_message="expected `mean` and `std`, or a `kind` of tokens: words, bytes or tokenizer",
    ),
]
"""What a recipe may write where a model's ``preprocess`` goes."""


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


def preprocess_inputs(model: nn.Module, preprocess: AnyPreprocess | None) -> nn.Module:
    """Let the model prepare its own inputs; its ``state_dict`` and layer paths stay as they are.

    Args:
        model: changed in place; what it did to its inputs before is replaced.
        preprocess: a normalisation, or the tokens that it makes of texts; None for nothing.

    Returns:
        The model.

    Raises:
        InputError: for a tokenizer that cannot be read, or makes tokens that the model cannot read.
    """
    inner = unwrapped(model)
    for key, hook in list(inner._forward_pre_hooks.items()):
        if isinstance(hook, InputNormalization | TextTokenization):
            del inner._forward_pre_hooks[key]
            inner._forward_pre_hooks_with_kwargs.pop(key, None)
        if isinstance(hook, InputNormalization):
            del inner._buffers[_MEAN], inner._buffers[_STD]
    if isinstance(preprocess, Preprocess):
        reference = next(inner.parameters(), torch.empty(0))
        for name, values in ((_MEAN, preprocess.mean), (_STD, preprocess.std)):
            inner.register_buffer(name, torch.tensor(values, device=reference.device), persistent=False)
        inner.register_forward_pre_hook(InputNormalization(preprocess), with_kwargs=True)
    elif preprocess is not None:
        tokens = open_tokens(preprocess)
        fitted = fitting(tokens, inner)
        tokens = tokens if fitted == preprocess else open_tokens(fitted)
        pad_alike(inner, tokens)
        tell_apart(inner, tokens)
        inner.register_forward_pre_hook(tokens, with_kwargs=True)
    return model


def preprocess_of(model: nn.Module) -> AnyPreprocess | None:
    """What a model does to its inputs first, None when it takes them as they come."""
    tokenization = tokenization_of(model)
    return normalisation_of(model) if tokenization is None else tokenization.spec


def normalisation_of(model: nn.Module) -> Preprocess | None:
    """The normalisation that a model carries, None without one."""
    hooks = unwrapped(model)._forward_pre_hooks.values()
    return next((hook.preprocess for hook in hooks if isinstance(hook, InputNormalization)), None)


def check_preprocess(preprocess: AnyPreprocess | None, inputs: Any) -> None:
    """Compare what a model shall do to its inputs with the inputs that it is meant for.

    Args:
        preprocess: a normalisation, or tokens.
        inputs: an example batch's inputs.

    Raises:
        InputError: for texts without tokens, tokens of something else, or another number of channels.
    """
    if are_texts(inputs) and not isinstance(preprocess, Words | Bytes | Tokenizer):
        raise InputError(
            "the data are texts, and the model says nothing of tokens; give it `preprocess: {kind: words}`, "
            "`{kind: bytes}`, or `{kind: tokenizer, path: …}`, the tokenizer that it was trained with"
        )
    if isinstance(preprocess, Words | Bytes | Tokenizer) and not are_texts(inputs) and not are_tokens(inputs):
        raise InputError(
            f"`preprocess` makes tokens of texts (kind: {preprocess.kind}), and the data are no texts; say "
            "`task: text_classification` if a column of them is meant"
        )
    values = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else (inputs,)
    tensor = next((value for value in values if _is_float(value)), None)
    if not isinstance(preprocess, Preprocess) or tensor is None or tensor.ndim < 2:
        return
    if len(preprocess.mean) not in (1, tensor.shape[1]):
        raise InputError(
            f"preprocess has {len(preprocess.mean)} values of mean and std, but the inputs have {tensor.shape[1]} "
            f"channels (shape {('N', *tensor.shape[1:])}). Give {tensor.shape[1]} values, or one for all"
        )


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
