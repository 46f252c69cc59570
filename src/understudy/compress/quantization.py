"""Numbers of eight bits in the place of floats, by NNCF."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from understudy.batch import Batch, tensors_of
from understudy.compress.nncf_calls import Activations, Mode, Traced, converted, traced
from understudy.edits.nncf_library import is_quantized
from understudy.edits.quantized import Quantized, QuantizedWeights
from understudy.errors import InputError, listing
from understudy.foreign import reason
from understudy.sources.forward import call, device_of, each_tensor, evaluating
from understudy.taps import unknown_layer, unwrapped
from understudy.tasks.task import Task

CALIBRATION = 300
"""Samples that ranges are taken from, when nobody says otherwise."""
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)


@dataclass(frozen=True, slots=True)
class QuantizedNetwork:
    """A network with numbers of eight bits.

    Attributes:
        network: the new one, on the same device and in the same modes; the one before is as it was.
        edit: what was changed, for :func:`~understudy.sources.save_artifact`.
        layers: paths of the layers whose weights have eight bits now.
        kept: those that were asked to stay in float.
        samples: how many it was calibrated with.
    """

    network: nn.Module
    edit: Quantized | QuantizedWeights
    layers: tuple[str, ...]
    kept: tuple[str, ...]
    samples: int


def quantize(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    task: Task,
    samples: int = CALIBRATION,
    mode: Mode = "static",
    keep: Sequence[str] = (),
    activations: Activations = "symmetric",
) -> QuantizedNetwork:
    """Round a trained network's numbers to eight bits.

    ``static``: weights (per channel) and activations (with ranges that are taken from the calibration data), with
    NNCF's bias correction, and its smoothing where there is attention. The network then computes in float with rounded
    numbers, which can be trained; what is exported of it computes in int8. ``weights``: weights in int8 with a factor
    for each row, a quarter of the size; activations stay in float, and the weights cannot be trained any more.

    The normalisation that a model does to its own inputs stays in float. Equal input gives equal results.

    Args:
        model: a float network; wrappers such as ``torch.compile`` are looked through.
        batches: raw or ready, as many as hold ``samples``; labels are not read.
        task: how batches are read.
        samples: how many of them are used.
        mode: what is rounded.
        keep: paths of layers that stay in float, with everything inside them.
        activations: ``symmetric`` is what every runtime can do, ``asymmetric`` is finer for values of one sign.

    Raises:
        InputError: when NNCF is not installed, for a layer that does not exist, calibration data that are empty or that
            the network cannot take, a network that is quantized already, takes another way for some samples, has
            recurrent layers that are not among ``keep``, or has a layer that NNCF cannot follow, which is named.
    """
    network = unwrapped(model)
    check_quantizable(network, keep)
    shown = calibration(network, batches, task=task, samples=samples)
    check_way(network, shown, keep=keep)
    return quantized(network, traced(network, shown), mode=mode, keep=keep, activations=activations)


def quantized(
    network: nn.Module, seen: Traced, *, mode: Mode, keep: Sequence[str], activations: Activations
) -> QuantizedNetwork:
    """The same for a network that was checked and traced; see :func:`quantize`.

    Raises:
        InputError: when NNCF cannot do it, or nothing is left to quantize.
    """
    leave = [operation.name for operation in seen.operations if operation.is_of(keep)]
    found = converted(seen, mode=mode, leave=leave, activations=activations)
    edit = QuantizedWeights.of(found) if mode == "weights" else Quantized.of(found)
    weights = edit.weights if isinstance(edit, QuantizedWeights) else _rounded_weights(edit, seen)
    layers = tuple(dict.fromkeys(path.rpartition(".")[0] or path for path in _in_order(weights, network)))
    if not layers and not keep:
        raise InputError(
            "NNCF found nothing to quantize; expected linear layers, convolutions or embeddings among the layers of "
            f"{type(network).__name__}"
        )
    found.train(network.training)
    for path, layer in network.named_modules():
        found.get_submodule(path).training = layer.training
    return QuantizedNetwork(found, edit, layers, tuple(keep), seen.samples)


def calibration(network: nn.Module, batches: Iterable[Any], *, task: Task, samples: int) -> list[Batch]:
    """The first samples of a loader, where the network is.

    Raises:
        InputError: for a number below one, or when there is not a single sample.
    """
    if samples < 1:
        raise InputError(f"expected one calibration sample or more, got {samples}")
    taken: list[Batch] = []
    left = samples
    for raw in batches:
        batch = task.batch(raw)
        count = len(tensors_of(batch.inputs)[0])
        if count:
            taken.append(_first(batch, left).to(device_of(network)))
        left -= count
        if left <= 0:
            break
    if not taken:
        raise InputError("the calibration set is empty; expected some hundred samples like those of the training")
    return taken


def check_quantizable(network: nn.Module, keep: Sequence[str]) -> None:
    """See that a network is one that can be quantized.

    Raises:
        InputError: when it is not.
    """
    if is_quantized(network):
        raise InputError("the network is quantized already; expected the float network that it was made from")
    known = dict(network.named_modules())
    parameters = dict(network.named_parameters())
    missing = [layer for layer in keep if not layer or layer not in known | parameters]
    if missing:
        raise InputError("\n".join(unknown_layer(layer, known, "the network to quantize") for layer in missing))
    scripted = [path for path, layer in known.items() if isinstance(layer, torch.jit.ScriptModule)]
    if scripted:
        raise InputError(
            f"the layers {listing(scripted)} are TorchScript, of which NNCF sees no operation; expected modules "
            "written in Python"
        )
    recurrent = [
        path
        for path, layer in known.items()
        if isinstance(layer, _RECURRENT) and not any(path == name or path.startswith(f"{name}.") for name in keep)
    ]
    if recurrent:
        raise InputError(
            f"the recurrent layers {listing(recurrent)} cannot be quantized in PyTorch: NNCF would leave them in "
            "float. Export the float network as `onnx_dynamic`, or name these layers in keep to quantize the others"
        )


def check_way(network: nn.Module, batches: Sequence[Batch], *, keep: Sequence[str]) -> None:
    """See that a network takes the calibration data, and runs the same layers for all of them.

    Raises:
        InputError: when it does not, naming shapes or the layer.
    """
    first: list[str] = []
    with evaluating(network), torch.no_grad(), _following(network) as ran:
        for number, batch in enumerate(batches, 1):
            ran.clear()
            try:
                call(network, batch.inputs)
            except Exception as error:  # whatever somebody's network raises
                shapes = ", ".join(str(("N", *tensor.shape[1:])) for tensor in tensors_of(batch.inputs))
                raise InputError(
                    f"the network cannot take the calibration data, of the shape {shapes}: {reason(error)}. Expected "
                    "samples like those it was trained on"
                ) from error
            way = [path for path in ran if not any(path == name or path.startswith(f"{name}.") for name in keep)]
            first = first or way
            if way != first:
                raise InputError(
                    f"the network takes another way for batch {number} of the calibration data than for the first, "
                    f"from the layer {_fork(first, way)!r} on: where it branches, or how often it loops, depends on "
                    "its input. Quantizers stand in one way; write the branch without one (torch.where), give all "
                    "samples one length, or name the layer in keep"
                )


@contextmanager
def _following(network: nn.Module) -> Iterator[list[str]]:
    """The paths of the layers with parameters, as they run."""
    ran: list[str] = []
    handles = [
        layer.register_forward_pre_hook(lambda *_, path=path: ran.append(path))
        for path, layer in network.named_modules()
        if next(layer.parameters(recurse=False), None) is not None
    ]
    try:
        yield ran
    finally:
        for handle in handles:
            handle.remove()


def _fork(one: list[str], other: list[str]) -> str:
    together = next((pair for pair in zip(one, other, strict=False) if pair[0] != pair[1]), None)
    if together is None:
        longer = max(one, other, key=len)
        return longer[min(len(one), len(other))]
    # Of the two that differ, the one that the other way leaves out.
    return together[0] if together[0] not in other else together[1]


def _first(batch: Batch, count: int) -> Batch:
    mask = None if batch.mask is None else batch.mask[:count]
    return Batch(each_tensor(batch.inputs, lambda tensor: tensor[:count]), mask=mask)


def _rounded_weights(edit: Quantized, seen: Traced) -> set[str]:
    """The matrices and filters that are rounded."""
    places = {place.rpartition(".")[0] for quantizer in edit.quantizers for place in quantizer.places}
    return {
        path
        for operation in seen.operations
        for port, path in operation.weights.items()
        if f"pre_hooks.{operation.name.replace('.', ':')}__{port}" in places
    }


def _in_order(weights: Collection[str], network: nn.Module) -> list[str]:
    parameters = network.named_parameters(remove_duplicate=False)
    return [path for path, parameter in parameters if path in weights and parameter.ndim > 1]
