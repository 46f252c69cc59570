"""The layer that makes a network's logits, and running the network without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from understudy.errors import InputError
from understudy.functional.vocabulary import Head
from understudy.knowledge import BeforeHead, Knowledge
from understudy.taps import unwrapped

_CAPS = ("final_logit_softcapping", "logits_soft_cap")
"""What configurations of transformers call the soft cap of logits."""


@dataclass(frozen=True)
class LastLayer:
    """A linear layer whose output, scaled and capped, is what a network answers.

    Attributes:
        path: of the layer.
        scale: what its output is multiplied by.
        cap: the soft cap of the logits, None for none.
    """

    path: str
    scale: float = 1.0
    cap: float | None = None

    def head(self, network: nn.Module) -> Head:
        """The layer's weights as they are now, with their gradients."""
        layer = self._layer(network)
        return Head(layer.weight, layer.bias, self.scale, self.cap)

    def _layer(self, network: nn.Module) -> nn.Linear:
        layer = unwrapped(network).get_submodule(self.path)
        assert isinstance(layer, nn.Linear)  # `last_layer` has seen to it
        return layer

    def left_out(self, network: nn.Module, observe: Callable[[], Knowledge], chunk: int | None = None) -> Knowledge:
        """What a network shows when it stops before the layer: its logits have a shape and no values.

        Args:
            network: the network.
            observe: runs it.
            chunk: positions whose logits are to be computed at a time, None for about a million logits.
        """
        with _without(self._layer(network)) as seen:
            knowledge = observe()
        head = self.head(network).of(knowledge.logits.shape[-1])
        return replace(knowledge, before_head=BeforeHead(seen[-1], head, chunk))


def last_layer(network: nn.Module, observe: Callable[[], Knowledge]) -> LastLayer:
    """Find the layer, and see that leaving it out loses nothing.

    Args:
        network: in eval mode.
        observe: runs the network on an example.

    Raises:
        InputError: when the logits are not those of a linear layer, scaled and capped or not.
    """
    inner = unwrapped(network)
    runs: list[tuple[str, Tensor]] = []
    linear: dict[nn.Module, str] = {
        layer: path for path, layer in inner.named_modules() if isinstance(layer, nn.Linear)
    }

    def remember(layer: nn.Module, _inputs: Any, output: Tensor) -> None:
        runs.append((linear[layer], output))

    handles = [layer.register_forward_hook(remember) for layer in linear]
    try:
        with torch.no_grad():
            logits = observe().logits.double()
    finally:
        for handle in handles:
            handle.remove()
    wide = [(path, output) for path, output in runs if output.shape[:-1] == logits.shape[:-1]]
    wide = [(path, output) for path, output in wide if output.shape[-1] >= logits.shape[-1]]
    if wide:
        path, output = wide[-1]
        found = LastLayer(path, *_shape(output[..., : logits.shape[-1]].double(), logits, inner))
        if _agrees(found, inner, observe, logits):
            return found
    raise InputError(
        f"the logits of {type(inner).__name__} are not the output of its last linear layer, scaled and capped or not, "
        "so that they cannot be computed a few positions at a time; leave head_chunk out"
    )


def _shape(output: Tensor, logits: Tensor, network: nn.Module) -> tuple[float, float | None]:
    """By what the output was scaled, and how the result is capped."""
    configuration: Any = getattr(network, "config", None)
    caps = [getattr(configuration, name, None) for name in _CAPS]
    cap = next((float(cap) for cap in caps if cap), None)
    if cap is not None:
        logits = torch.atanh((logits / cap).clamp(-1 + 1e-6, 1 - 1e-6)) * cap
    there = output.isfinite() & logits.isfinite()
    output, logits = output[there], logits[there]
    scale = float((output * logits).sum() / output.square().sum().clamp(min=1e-30))
    return (1.0 if abs(scale - 1.0) < 1e-3 else scale), cap


def _agrees(found: LastLayer, network: nn.Module, observe: Callable[[], Knowledge], logits: Tensor) -> bool:
    """Whether the layer left out and computed afterwards gives the same logits."""
    try:
        with torch.no_grad():
            before = found.left_out(network, observe).before_head
            assert before is not None
            later = before.head.logits(before.hidden.flatten(0, -2)).double().reshape(logits.shape)
    except RuntimeError:  # it computes with the logits, and finds none
        return False
    there = logits.isfinite()  # what is not will be named by whoever trains on it
    largest = float(logits.where(there, 0.0).abs().max())
    return torch.allclose(later[there], logits[there], rtol=1e-2, atol=1e-2 * largest)


@contextmanager
def _without(layer: nn.Linear) -> Iterator[list[Tensor]]:
    """Inside, the layer gives logits of the right shape without values or memory; the list is what it was given."""
    seen: list[Tensor] = []
    before = layer.__dict__.get("forward")
    words = len(layer.weight)

    def forward(input: Tensor) -> Tensor:
        seen.append(input)
        return torch.empty((*input.shape[:-1], words), dtype=input.dtype, device="meta")

    layer.forward = forward
    try:
        yield seen
    finally:
        del layer.forward
        if before is not None:
            layer.forward = before
