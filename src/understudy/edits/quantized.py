"""A network whose numbers are rounded to eight bits where NNCF has put it down."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Literal, final

import torch
from pydantic import JsonValue
from torch import nn

from understudy.edits.edit import Edit
from understudy.edits.nncf_library import HOOKS, is_quantized, nncf_library
from understudy.errors import InputError
from understudy.extras import imported
from understudy.spec import Spec

_NEEDED_BY = "a quantized network"


class Quantizer(Spec):
    """One of NNCF's quantizers, without its ranges: those are weights of the network."""

    kind: str
    """NNCF's class, such as ``SymmetricQuantizer``."""
    module: str
    """Where NNCF has it."""
    places: tuple[str, ...]
    """Where it stands, as NNCF names it; several share one range."""
    settings: dict[str, JsonValue]
    """What it is made with."""


@final
class Quantized(Edit):
    """Where activations and weights are rounded to eight bits, and how.

    The network computes in float with rounded numbers, so that it can be trained; what is exported computes in int8.
    The quantizers' ranges are among the network's weights.
    """

    becomes: ClassVar[str] = "int8"
    kind: Literal["quantized"] = "quantized"
    quantizers: tuple[Quantizer, ...]
    """In NNCF's order."""

    @classmethod
    def of(cls, network: nn.Module) -> Quantized:
        """What NNCF has put into a network.

        Args:
            network: what ``nncf.quantize`` gave.

        Raises:
            InputError: when NNCF is not installed.
        """
        state = nncf_library(needed_by=_NEEDED_BY).torch.get_config(network)["compression_state"]
        return cls(
            quantizers=tuple(
                Quantizer(
                    kind=entry["module_cls_name"],
                    module=entry["module_path"],
                    places=tuple(entry["hook_names_in_model"]),
                    settings=json.loads(json.dumps(entry["module_config"])),
                )
                for entry in state
            )
        )

    def replay(self, network: nn.Module, inputs: Any) -> nn.Module:  # noqa: ARG002
        """Put quantizers without ranges into the same places.

        Args:
            network: changed in place.
            inputs: not needed.

        Raises:
            InputError: when NNCF is not installed, or cannot put them there.
        """
        _refuse_quantized(network, self.kind)
        nncf = nncf_library(needed_by=_NEEDED_BY)
        state = [
            {
                "module_cls_name": quantizer.kind,
                "module_path": quantizer.module,
                "hook_names_in_model": list(quantizer.places),
                "module_config": {
                    name: tuple(value) if isinstance(value, list) else value
                    for name, value in quantizer.settings.items()
                },
            }
            for quantizer in self.quantizers
        ]
        try:
            return nncf.torch.load_from_config(network, {"compression_state": state})
        except Exception as error:  # whatever NNCF makes of a list that it did not write
            raise InputError(f"the structural edit {self.kind!r} cannot be replayed by NNCF: {error}") from error


@final
class QuantizedWeights(Edit):
    """Which weights are kept in int8, with a factor for each row; the network computes in float."""

    becomes: ClassVar[str] = "int8 weights"
    kind: Literal["quantized_weights"] = "quantized_weights"
    weights: dict[str, tuple[int, ...]]
    """Shape of its factors, by the path of the weight."""

    @classmethod
    def of(cls, network: nn.Module) -> QuantizedWeights:
        """What NNCF has made of a network's weights.

        Args:
            network: what ``nncf.compress_weights`` gave.
        """
        decompressors = network.get_submodule(f"{HOOKS}.post_hooks").named_children()
        return cls(
            weights={
                place.removesuffix("__0").replace(":", "."): tuple(found.get_submodule("0").get_buffer("_scale").shape)
                for place, found in decompressors
            }
        )

    def replay(self, network: nn.Module, inputs: Any) -> nn.Module:  # noqa: ARG002
        """Make the weights int8 zeros with factors of zero; shared ones stay shared.

        Args:
            network: changed in place.
            inputs: not needed.

        Raises:
            InputError: when it does not have these weights, or NNCF is not installed.
        """
        _refuse_quantized(network, self.kind)
        nncf_library(needed_by=_NEEDED_BY)
        layers = imported("nncf.torch.quantization.layers", extra="compress")
        hooks = imported("nncf.torch.function_hook", extra="compress")
        changed: dict[int, nn.Parameter] = {}
        decompressors = {}
        for name, shape in self.weights.items():
            path, _, own = name.rpartition(".")
            old = self.layer_of(network, path)._parameters.get(own)
            if old is None:
                raise InputError(
                    f"the structural edit {self.kind!r} is about {name!r}, which the network does not have"
                )
            decompressors[name] = layers.INT8SymmetricWeightsDecompressor(torch.zeros(shape), result_dtype=old.dtype)
            changed[id(old)] = nn.Parameter(torch.zeros_like(old, dtype=torch.int8), requires_grad=False)
        for layer in network.modules():
            for own, parameter in layer._parameters.items():
                if parameter is not None and id(parameter) in changed:
                    layer._parameters[own] = changed[id(parameter)]
        hooks.wrap_model(network)
        for name, decompressor in decompressors.items():
            hooks.register_post_function_hook(network, name, 0, decompressor)
        return network


def _refuse_quantized(network: nn.Module, kind: str) -> None:
    if is_quantized(network):
        raise InputError(f"the structural edit {kind!r} is about a network that was quantized already")
