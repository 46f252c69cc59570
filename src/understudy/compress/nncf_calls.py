"""NNCF called with networks, batches and layers by path, as everything here knows them."""

from __future__ import annotations

import copy
import platform
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from understudy.batch import Batch, tensors_of
from understudy.edits.nncf_library import nncf_library
from understudy.errors import InputError
from understudy.foreign import quiet, reason
from understudy.sources.forward import each_tensor

Activations = Literal["symmetric", "asymmetric"]
Mode = Literal["static", "weights"]

_NEEDED_BY = "quantizing a network"
_ATTENTION = ("scaled_dot_product_attention", "softmax")
_WITHOUT_BATCH = ("embedding", "embedding_bag")
"""What may see something else than samples along its first dimension, such as positions."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of a network's graph.

    Attributes:
        name: NNCF's.
        type: torch's name for it, such as ``conv2d``.
        weights: the paths of the parameters and buffers that it takes, by the number of the argument.
    """

    name: str
    type: str
    weights: Mapping[int, str]

    def is_of(self, layers: Collection[str]) -> bool:
        """Whether it takes a parameter of one of these layers, or of a layer inside one."""
        return any(path == layer or path.startswith(f"{layer}.") for path in self.weights.values() for layer in layers)


@dataclass(frozen=True, slots=True)
class Traced:
    """A network that NNCF has looked at.

    Attributes:
        network: as it was, but a copy in eval mode.
        inputs: what it is calibrated with, as NNCF takes it.
        operations: what it consists of.
    """

    network: nn.Module
    inputs: tuple[Any, ...]
    operations: tuple[Operation, ...]

    @property
    def samples(self) -> int:
        """How many it is calibrated with."""
        return sum(len(tensors_of(inputs)[0]) for inputs in self.inputs)

    @property
    def attends(self) -> bool:
        """Whether it is a transformer, which needs its activations smoothed."""
        return any(operation.type in _ATTENTION for operation in self.operations)

    @property
    def one_by_one(self) -> bool:
        """Whether statistics have to be taken sample by sample."""
        return any(operation.type in _ATTENTION + _WITHOUT_BATCH for operation in self.operations)


def traced(network: nn.Module, batches: Collection[Batch]) -> Traced:
    """Look at the operations of a network.

    Args:
        network: left as it is.
        batches: what it is calibrated with, where the network is.

    Raises:
        InputError: when NNCF is not installed, or cannot follow the network.
    """
    nncf = nncf_library(needed_by=_NEEDED_BY)
    inputs = tuple(_as_nncf_takes(batch.inputs) for batch in batches)
    with _by_nncf():
        network = copy.deepcopy(network).eval()
        example = each_tensor(inputs[0], lambda tensor: tensor[:1])
        graph = nncf.torch.wrap_model(copy.deepcopy(network), example, trace_parameters=True).build_graph()
        constants = {node.node_name for node in graph.get_all_nodes() if node.node_type == "nncf_model_const"}
        operations = tuple(
            Operation(
                node.node_name,
                node.node_type,
                {
                    edge.input_port_id: edge.from_node.node_name
                    for edge in graph.get_input_edges(node)
                    if edge.from_node.node_name in constants
                },
            )
            for node in graph.get_all_nodes()
            if node.node_name not in constants
        )
    seen = Traced(network, inputs, operations)
    return Traced(network, tuple(_single(inputs)), operations) if seen.one_by_one else seen


def converted(traced: Traced, *, mode: Mode, leave: Collection[str], activations: Activations) -> nn.Module:
    """A copy of the network with numbers of eight bits.

    Args:
        traced: the network and its calibration data.
        mode: whether activations are rounded too.
        leave: names of the operations that stay as they are.
        activations: around which zero they are rounded.

    Raises:
        InputError: when NNCF cannot do it, naming the layer.
    """
    nncf = nncf_library(needed_by=_NEEDED_BY)
    left = nncf.IgnoredScope(names=list(leave), validate=False)
    with _by_nncf(), torch.random.fork_rng(devices=[]):
        if mode == "weights":
            return nncf.compress_weights(
                copy.deepcopy(traced.network),
                mode=nncf.CompressWeightsMode.INT8_SYM,
                dataset=nncf.Dataset([traced.inputs[0]]),
                ignored_scope=left,
            )
        presets = {"symmetric": nncf.QuantizationPreset.PERFORMANCE, "asymmetric": nncf.QuantizationPreset.MIXED}
        return nncf.quantize(
            traced.network,
            nncf.Dataset(list(traced.inputs)),
            subset_size=len(traced.inputs),
            preset=presets[activations],
            model_type=nncf.ModelType.TRANSFORMER if traced.attends else None,
            ignored_scope=left,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                batchwise_statistics=not traced.one_by_one, overflow_fix=_overflow_fix(nncf)
            ),
        )


def _overflow_fix(nncf: Any) -> Any:
    """Weights of seven bits where this processor adds pairs of products in 16; otherwise those of the first layer."""
    ways = nncf.quantization.advanced_parameters.OverflowFix
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return ways.ENABLE if is_x86 and not torch.cpu._is_vnni_supported() else ways.FIRST_LAYER


@contextmanager
def _by_nncf() -> Iterator[None]:
    try:
        with quiet():
            yield
    except InputError:
        raise
    except Exception as error:  # whatever tracing somebody's network raises
        place = _place(error)
        named = f" at the layer {place!r}" if place else ""
        raise InputError(
            f"NNCF cannot quantize this network{named}: {type(error).__name__}: {reason(error).rstrip('.')}. Expected "
            "a network of torch operations on tensors; write the layer with those"
        ) from error


def _place(error: Exception) -> str:
    """The path of the innermost layer that ran when an error was raised; empty when none did."""
    layers, trace = [], error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            layers.append(owner)
        trace = trace.tb_next
    paths = {module: path for layer in layers[:1] for path, module in layer.named_modules()}
    return next((paths[layer] for layer in reversed(layers) if layer in paths), "")


def _as_nncf_takes(inputs: Any) -> Any:
    return dict(inputs) if isinstance(inputs, Mapping) else tuple(inputs) if isinstance(inputs, list) else inputs


def _single(batches: Collection[Any]) -> Iterator[Any]:
    for inputs in batches:
        for index in range(len(tensors_of(inputs)[0])):
            yield each_tensor(inputs, lambda tensor, index=index: tensor[index : index + 1])
