"""Unstructured pruning: single weights become zeros and stay zeros. Nothing becomes smaller or faster by it."""

from __future__ import annotations

import copy
import gzip
import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from understudy.errors import InputError
from understudy.taps import unreadable, unwrapped

_LAYERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
_KEPT = "kept_weights"
_LEAST = 0.2
"""The share of weights that each layer keeps at least, relative to that of the whole network."""


@dataclass(frozen=True)
class Sparse:
    """A network some of whose weights are zeros.

    Attributes:
        network: a copy. Training it leaves the zeros as they are.
        zeros: how many weights of each layer are zeros, and of how many.
    """

    network: nn.Module
    zeros: dict[str, tuple[int, int]]

    @property
    def sparsity(self) -> float:
        """The share of zeros among the weights of all these layers."""
        return sum(zeros for zeros, _ in self.zeros.values()) / sum(total for _, total in self.zeros.values())


def sparsify(model: nn.Module, sparsity: float, *, keep: Sequence[str] = ()) -> Sparse:
    """Make the smallest weights of linear layers and convolutions zeros, in a copy, and hold them there.

    The weights of all layers are compared with each other, but each layer keeps at least a fifth of the share that all
    keep together. Biases, embeddings and normalisations stay. A dense layer multiplies by zeros as by anything else:
    the file is as large as before (but compresses), and as slow.

    Args:
        model: left as it is. Weights that are zeros already stay so.
        sparsity: the share of zeros, above 0 and below 1.
        keep: layers whose weights stay, with all layers below them.

    Raises:
        InputError: for a share that is none, a layer that is not there, or a network without such layers.

    Example:
        >>> sparse = sparsify(nn.Sequential(nn.Linear(10, 10)), 0.75)
        >>> sparse.zeros, sparse.sparsity
        ({'0': (75, 100)}, 0.75)

    References:
        Han et al., NIPS 2015 (arXiv:1506.02626).
    """
    if not 0.0 < sparsity < 1.0:
        raise InputError(f"expected a share of zeros above 0 and below 1, got {sparsity}")
    if problems := unreadable(model, keep, "the network"):
        raise InputError("\n".join(problems))
    network = copy.deepcopy(unwrapped(model))
    layers = {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, _LAYERS) and not any(f"{name}.".startswith(f"{kept}.") for kept in keep)
    }
    if not layers:
        raise InputError(f"{type(network).__name__} has no linear layer or convolution whose weights could be zeros")
    with torch.no_grad():
        sizes = [layer.weight.numel() for layer in layers.values()]
        magnitudes = torch.cat([_magnitudes(layer.weight, _LEAST * (1 - sparsity)) for layer in layers.values()])
        kept = torch.ones_like(magnitudes, dtype=torch.bool)
        kept[magnitudes.argsort(stable=True)[: round(sparsity * len(magnitudes))]] = False
        for layer, mask in zip(layers.values(), kept.split(sizes), strict=True):
            _hold(layer, mask.view(layer.weight.shape))
    return Sparse(
        network, {name: (int((each.weight == 0).sum()), each.weight.numel()) for name, each in layers.items()}
    )


def gzip_bytes(path: Path) -> int:
    """How large a file would be after gzip, level 6."""
    return len(gzip.compress(path.read_bytes(), compresslevel=6, mtime=0))


def _magnitudes(weight: Tensor, least: float) -> Tensor:
    """(numbers in the weight,) on the CPU; infinite for the largest, of which the layer keeps a share."""
    magnitudes = weight.detach().abs().flatten().float().cpu()
    spared = min(len(magnitudes), max(1, math.ceil(least * len(magnitudes))))
    magnitudes[magnitudes.topk(spared).indices] = math.inf
    return magnitudes


def _hold(layer: nn.Module, mask: Tensor) -> None:
    for key, hook in list(layer._forward_pre_hooks.items()):
        if isinstance(hook, HeldZeros):
            del layer._forward_pre_hooks[key]
    layer.register_buffer(_KEPT, mask.to(layer.get_parameter("weight").device), persistent=False)
    hook = HeldZeros()
    layer.register_forward_pre_hook(hook)
    hook(layer, ())


@final
class HeldZeros:
    """A forward pre-hook that holds weights at zero: they get no gradient, and what moved them is undone.

    The mask is a buffer of the layer that is not saved. It is an object, not a closure, so that a copy of the network
    holds the copied weights.
    """

    def __init__(self) -> None:
        self._held: weakref.ref[Tensor] | None = None

    def __call__(self, layer: nn.Module, inputs: Any) -> None:  # noqa: ARG002
        """Called before each forward pass of the layer."""
        weight, mask = layer.get_parameter("weight"), layer.get_buffer(_KEPT)
        weight.data.mul_(mask)
        if weight.requires_grad and (self._held is None or self._held() is not weight):
            weight.register_hook(lambda gradient: gradient * layer.get_buffer(_KEPT))
            self._held = weakref.ref(weight)
