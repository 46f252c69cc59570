"""Which layers of a network can become products of smaller ones, and what that would cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from understudy.edits.factorised import CONVOLUTIONS, Ranks, is_pointwise
from understudy.errors import InputError
from understudy.functional.factorisation import mode_spectrum, rank_for_energy
from understudy.sources.forward import call, evaluating
from understudy.taps import unknown_layer


@dataclass(frozen=True)
class Candidate:
    """A layer that can be factorised.

    Attributes:
        layer: an ``nn.Linear`` or a convolution.
        inputs: positions (tokens, pixels) of one sample that it reads, over all of its calls.
        outputs: positions that it writes.
    """

    layer: nn.Module
    inputs: int
    outputs: int

    @property
    def has_one_rank(self) -> bool:
        """Whether it becomes two factors, and not up to three."""
        return is_pointwise(self.layer)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return self.outputs * self.parameters

    @property
    def parameters(self) -> int:
        """Numbers in its weight."""
        return self._weight.numel()

    def cost_of(self, ranks: Ranks) -> tuple[int, int]:
        """Multiply-accumulates and weights of its factors.

        Args:
            ranks: see :class:`~understudy.edits.Factorised`.
        """
        outputs, inputs = self._weight.shape[:2]
        if len(ranks) == 1:
            parameters = ranks[0] * (inputs + outputs)
            return self.outputs * parameters, parameters
        first = 0 if ranks[1] == inputs else inputs * ranks[1]
        last = 0 if ranks[0] == outputs else outputs * ranks[0]
        core = prod(ranks) * prod(self._weight.shape[2:])
        return self.inputs * first + self.outputs * (core + last), first + core + last

    def ranks_for(self, energy: float) -> Ranks | None:
        """The cheapest ranks that keep a share of the squared weight; None where that makes nothing cheaper.

        Args:
            energy: between 0 and 1.
        """
        options = [
            (self.cost_of(ranks), ranks)
            for ranks in self._options(energy)
            if all(new < old for new, old in zip(self.cost_of(ranks), (self.macs, self.parameters), strict=True))
        ]
        return min(options)[1] if options else None

    def _options(self, energy: float) -> Iterator[Ranks]:
        outputs, inputs = self._weight.shape[:2]
        if self.has_one_rank:
            yield (rank_for_energy(self._of_smaller, energy=energy),)
            return
        # What two truncations lose adds up, at the most.
        half = 1.0 - (1.0 - energy) / 2
        yield rank_for_energy(self._of_outputs, energy=half), rank_for_energy(self._of_inputs, energy=half)
        yield rank_for_energy(self._of_outputs, energy=energy), inputs
        yield outputs, rank_for_energy(self._of_inputs, energy=energy)

    @property
    def _weight(self) -> Tensor:
        return self.layer.get_parameter("weight")

    @cached_property
    def _of_outputs(self) -> Tensor:
        return mode_spectrum(self._weight.detach(), mode=0)

    @cached_property
    def _of_inputs(self) -> Tensor:
        return mode_spectrum(self._weight.detach(), mode=1)

    @cached_property
    def _of_smaller(self) -> Tensor:
        return self._of_outputs if self._weight.shape[0] <= self._weight.shape[1] else self._of_inputs


def candidates(
    network: nn.Module, inputs: Any, *, keep: Sequence[str] = ()
) -> tuple[dict[str, Candidate], dict[str, str]]:
    """The layers that can be factorised, and why the others with a matrix of weights cannot, both by path.

    Args:
        network: left as it is.
        inputs: one sample, on the network's device.
        keep: paths that are left alone, with everything below them.

    Raises:
        InputError: for a path to keep that the network does not have, or a weight with values that are not finite.
    """
    layers = dict(network.named_modules())
    if unknown := [path for path in keep if path not in layers]:
        raise InputError("; ".join(unknown_layer(path, layers, "the network to factorise") for path in unknown))
    shared = _shared(network)
    found, left = {}, {}
    for path, layer in layers.items():
        if not _has_matrix(layer):
            continue
        if reason := _reason(path, layer, keep, shared):
            left[path] = reason
        else:
            found[path] = layer
    positions = _positions(network, inputs, found)
    left |= {path: "it was not called for the example" for path in found if path not in positions}
    ordered = {path: left[path] for path in layers if path in left}
    return {path: Candidate(layer, *positions[path]) for path, layer in found.items() if path in positions}, ordered


def _has_matrix(layer: nn.Module) -> bool:
    own = layer.named_parameters(recurse=False)
    return isinstance(layer, (nn.Linear, *CONVOLUTIONS)) or any("weight" in name and p.ndim > 1 for name, p in own)


def _reason(path: str, layer: nn.Module, keep: Sequence[str], shared: Mapping[str, str]) -> str:
    """Why a layer is left alone, if it is."""
    if any(path == kept or path.startswith(f"{kept}.") for kept in keep):
        return "kept, as asked"
    if type(layer) is not nn.Linear and type(layer) not in CONVOLUTIONS:
        return f"{type(layer).__name__} is neither a linear layer nor a plain convolution"
    if getattr(layer, "groups", 1) != 1:
        return f"a convolution in {layer.groups} groups"
    if "weight" not in layer._parameters:
        return "its weight is computed from other parameters"
    if f"{path}.weight" in shared:
        return f"its weight is also {shared[f'{path}.weight']!r}"
    if layer._forward_hooks or layer._forward_pre_hooks:
        return "it has hooks of its own, which would be lost"
    if not path:
        return "it is the whole network; put it into an nn.Sequential"
    weight = layer.get_parameter("weight")
    if not weight.is_floating_point():
        return f"its weight holds {str(weight.dtype).removeprefix('torch.')}"
    if not weight.isfinite().all():
        raise InputError(
            f"the weight of layer {path!r} has values that are not finite, expected a trained network; load an "
            "earlier checkpoint, or find out where they come from"
        )
    return "" if weight.any() else "its weight is all zeros"


def _shared(network: nn.Module) -> dict[str, str]:
    """For each name of a parameter that has several, another one."""
    names: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {
        name: next(other for other in several if other != name)
        for several in names.values()
        if len(several) > 1
        for name in several
    }


def _positions(network: nn.Module, inputs: Any, layers: Mapping[str, nn.Module]) -> dict[str, tuple[int, int]]:
    """How many positions each layer reads and writes in one forward pass; nothing for those that are not called."""
    seen: dict[str, tuple[int, int]] = {}

    def count(path: str) -> Callable[..., None]:
        def add(layer: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> None:
            (read,) = (*given, *named.values())
            outputs, inputs = layer.get_parameter("weight").shape[:2]
            before = seen.get(path, (0, 0))
            seen[path] = before[0] + read.numel() // inputs, before[1] + output.numel() // outputs

        return add

    handles = [layer.register_forward_hook(count(path), with_kwargs=True) for path, layer in layers.items()]
    try:
        with evaluating(network), torch.no_grad(), torch.random.fork_rng(devices=[]):
            call(network, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return seen
