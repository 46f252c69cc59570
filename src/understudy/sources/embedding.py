"""One vector of each text, made of what a network gives: the end of a model, carried by the model itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, final

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from understudy.errors import InputError
from understudy.spec import Spec
from understudy.taps import unwrapped

_STATES, _MASK = "last_hidden_state", "attention_mask"


@final
class Embedding(Spec):
    """How a model makes one vector of a text."""

    width: Annotated[int, Field(ge=1)] | None = None
    """How long the vector is, of networks of our own and of functions with an argument `classes`. An encoder of
    transformers has the width of its states."""
    pooling: Literal["mean", "first"] = "mean"
    """What becomes of the states of an encoder's tokens: their mean over the real ones, or the first one's."""
    normalise: bool = False
    """Whether the vector is made one long."""


@final
class EmbeddingOutput:
    """A forward hook that turns what a network gives into one vector for each text.

    Args:
        embedding: how.
    """

    def __init__(self, embedding: Embedding) -> None:
        self.embedding = embedding

    def __call__(self, module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any], output: Any) -> Tensor:  # noqa: ARG002 - how hooks are called
        """(batch, width), of (batch, width), or of states (batch, tokens, width)."""
        found = _tensor(output)
        if found.ndim == 3:
            mask = named.get(_MASK)
            found = found[:, 0] if self.embedding.pooling == "first" else _mean(found, mask)
        return F.normalize(found, dim=-1) if self.embedding.normalise else found


def embed(model: nn.Module, embedding: Embedding | None = None) -> nn.Module:
    """Let a model answer one vector for each text; its ``state_dict`` and layer paths stay as they are.

    Args:
        model: gives (batch, width), or states (batch, tokens, width) as encoders of transformers do; changed in place.
        embedding: how the vector is made; the mean over the real tokens when not given.

    Returns:
        The model.

    Example:
        >>> import torch
        >>> network = embed(nn.Linear(3, 2), Embedding(normalise=True))
        >>> bool((network(torch.rand(4, 3)).norm(dim=1) - 1.0).abs().max() < 1e-6)
        True
    """
    inner = unwrapped(model)
    for key, hook in list(inner._forward_hooks.items()):
        if isinstance(hook, EmbeddingOutput):
            del inner._forward_hooks[key]
            inner._forward_hooks_with_kwargs.pop(key, None)
    inner.register_forward_hook(EmbeddingOutput(embedding or Embedding()), with_kwargs=True, prepend=True)
    return model


def embedding_of(model: nn.Module) -> Embedding | None:
    """How a model makes one vector of a text; None where it was not told to."""
    hooks = unwrapped(model)._forward_hooks.values()
    return next((hook.embedding for hook in hooks if isinstance(hook, EmbeddingOutput)), None)


def _tensor(output: Any) -> Tensor:
    if isinstance(output, Mapping) and _STATES in output:
        output = output[_STATES]
    elif isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor) or output.ndim not in (2, 3):
        shape = f" of shape {tuple(output.shape)}" if isinstance(output, Tensor) else ""
        raise InputError(
            f"the model returned {type(output).__name__}{shape}; expected a vector for each text, (batch, width), or "
            "the states of its tokens (batch, tokens, width)"
        )
    return output


def _mean(states: Tensor, mask: Any) -> Tensor:
    """The mean of the real tokens' states; of all where nobody says which are real."""
    if not isinstance(mask, Tensor):
        return states.mean(1)
    real = mask.unsqueeze(-1).to(states.dtype)
    return (states * real).sum(1) / real.sum(1).clamp_min(1.0)
