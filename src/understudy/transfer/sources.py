"""A network that was trained on other data, made ready for one's own; and the same one without what it knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from understudy.compress.graph import answers
from understudy.edits import AnyEdit, NewHead, Quantized, QuantizedWeights, Shallower
from understudy.errors import InputError, listing
from understudy.sources.architecture import build_architecture
from understudy.sources.artifact import load_artifact
from understudy.sources.artifact_record import example_of, locate_artifact, read_record
from understudy.sources.model_specs import ArtifactModel, ModelSpec
from understudy.sources.models import build_model
from understudy.sources.preprocess import check_preprocess, preprocess_inputs, preprocess_of
from understudy.taps import unwrapped
from understudy.tasks.task import Task
from understudy.transfer.units import Unit, units_of

Head = Literal["auto", "keep", "new"]


@dataclass(frozen=True)
class Source:
    """A network to be trained on with other data.

    Attributes:
        network: on the CPU, in train mode.
        edits: what was changed in it here.
        fresh: parameters that start at random: those of a new head, and of all units that are not kept.
    """

    network: nn.Module
    edits: tuple[AnyEdit, ...]
    fresh: tuple[str, ...]


def source_network(spec: ModelSpec, *, classes: Sequence[str], inputs: Any, task: Task, head: Head = "auto") -> Source:
    """A trained network, with a head for these classes.

    Args:
        spec: where it comes from.
        classes: of the data that it is to be trained on with, in order.
        inputs: an example batch's inputs.
        task: how it is called.
        head: ``keep`` for the old one, which needs the same classes in the same order; ``new`` for one with random
            weights; ``auto`` keeps it where the classes are the same.

    Raises:
        InputError: when it cannot be had, does not take the inputs, computes in int8, or is to keep its head and has
            other classes.
    """
    if isinstance(spec, ArtifactModel):
        return _from_artifact(spec, tuple(classes), inputs, task, head)
    if head == "keep":
        raise InputError(
            f"head: keep is about a saved model, whose classes are known; a model of {spec.source} gets a new head"
        )
    network = build_model(spec, classes=classes, inputs=inputs)
    return Source(network, (), units_of(network)[-1].parameters)


def scratch_network(spec: ModelSpec, source: Source, *, classes: Sequence[str], inputs: Any) -> nn.Module:
    """The same network with random weights: what it would be without what it knows.

    Args:
        spec: where the source comes from.
        source: the trained network.
        classes: of the data.
        inputs: an example batch's inputs.
    """
    if not isinstance(spec, ArtifactModel):
        return build_architecture(
            spec.model_copy(update={"preprocess": preprocess_of(source.network)}),
            classes=len(classes),
            inputs=inputs,
            pretrained=False,
        )
    network = random_copy(Path(spec.path), source.edits)
    preprocess_inputs(network, preprocess_of(source.network))
    return network


def random_copy(path: Path, edits: Sequence[AnyEdit] = ()) -> nn.Module:
    """The network of a saved model with random weights.

    Args:
        path: of the saved model.
        edits: what is changed in it after what was changed in the saved one.

    Raises:
        InputError: when it cannot be read or built.
    """
    record = read_record(*locate_artifact(path))
    example = example_of(record.inputs, 2)
    network = build_architecture(record.architecture, classes=len(record.classes), inputs=example, pretrained=False)
    begun = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for edit in (every := (*record.edits, *edits)):
        network = edit.replay(network, example)
    if not all(isinstance(edit, NewHead | Shallower) for edit in every):
        _begin_again(network, begun)
    preprocess_inputs(network, record.preprocess)
    return network


def _begin_again(network: nn.Module, begun: Mapping[str, Tensor]) -> None:
    """Give layers of other sizes, which are left with zeros, random weights; single parameters what they began with."""
    for path, module in network.named_modules():
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
            continue
        for name, parameter in module.named_parameters(path, recurse=False):
            before = begun.get(name)
            if before is not None and before.shape != parameter.shape and before.ndim == parameter.ndim:
                with torch.no_grad():
                    parameter.copy_(before[tuple(slice(size) for size in parameter.shape)])


def kept_units(source: Source, count: int) -> tuple[Unit, ...]:
    """The first units of a trained network, counted from its inputs; never its head.

    Args:
        source: with a new head.
        count: how many, 0 or more.

    Raises:
        InputError: for more units than there are in front of the head.
    """
    body = body_of(source)
    if count > len(body):
        raise InputError(
            f"units is {count}, and {type(unwrapped(source.network)).__name__} has {len(body)} units in front of its "
            f"head ({listing([unit.name for unit in body])}); keep {len(body)} at most"
        )
    return body[:count]


def body_of(source: Source) -> tuple[Unit, ...]:
    """All units of a trained network in front of its new head.

    Args:
        source: with a new head.
    """
    return tuple(takewhile(lambda unit: not {*unit.parameters} & {*source.fresh}, units_of(source.network)))


def with_units(source: Source, scratch: nn.Module, count: int) -> Source:
    """The same network at random, but for the first units of a trained one: their weights and buffers, bit for bit.

    Args:
        source: the trained network, with a new head; left as it is.
        scratch: the same network with random weights, see :func:`scratch_network`; changed in place.
        count: how many units are kept; with 0 it stays as it is.

    Raises:
        InputError: for more units than there are, or when the weights of the other one are not random at all.

    References:
        Yosinski, Clune, Bengio, Lipson: How transferable are features in deep neural networks?, NeurIPS 2014
        (arXiv:1411.1792), section 2: networks AnB, with these units frozen, and AnB+.
    """
    known, own = _tensors(source.network), _tensors(scratch)
    weights = [name for unit in body_of(source) for name in unit.parameters if own[name].ndim > 1]
    if weights and all(torch.equal(own[name], known[name]) for name in weights):
        raise InputError(
            f"{type(unwrapped(scratch)).__name__} always begins with the same weights, those of the source, so that no "
            "unit of it can begin at random; expected a function that builds it with random ones, and the trained ones "
            "under state"
        )
    kept = kept_units(source, count)
    with torch.no_grad():
        for name in (name for unit in kept for name in (*unit.parameters, *unit.buffers)):
            own[name].copy_(known[name])
    names = {name for unit in kept for name in unit.parameters}
    return Source(scratch, source.edits, tuple(name for name in dict(scratch.named_parameters()) if name not in names))


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    network = unwrapped(network)
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _from_artifact(spec: ArtifactModel, classes: tuple[str, ...], inputs: Any, task: Task, head: Head) -> Source:
    record = read_record(*locate_artifact(Path(spec.path)))
    if any(isinstance(edit, Quantized | QuantizedWeights) for edit in record.edits):
        raise InputError(
            f"the model in {spec.path} computes in int8, which cannot be trained on; take the one that it was made from"
        )
    # Of the same classes in another order the head could be kept by mistake: that is refused, not exchanged.
    keeps = head == "keep" or (head == "auto" and sorted(record.classes) == sorted(classes))
    loaded = load_artifact(spec.path, classes=classes if keeps else None)
    if spec.preprocess is not None:
        check_preprocess(spec.preprocess, inputs)
        preprocess_inputs(loaded.module, spec.preprocess)
    heads = heads_of(loaded.module, inputs, task)
    if keeps:
        return Source(loaded.module, (), ())
    edit = NewHead(layers=heads, classes=len(classes))
    network = edit.replay(loaded.module, inputs)
    fresh = tuple(name for name, _ in network.named_parameters() if name.rpartition(".")[0] in edit.layers)
    return Source(network, (edit,), fresh)


def heads_of(network: nn.Module, inputs: Any, task: Task) -> tuple[str, ...]:
    """The layers whose outputs are a network's logits, by path.

    Args:
        network: in whatever mode.
        inputs: a batch's.
        task: how it is called.

    Raises:
        InputError: when it cannot be called, or no linear layer or convolution gives them as they are.
    """
    found: dict[str, Tensor] = {}
    layers = {path: each for path, each in network.named_modules() if isinstance(each, nn.Linear | nn.Conv2d)}
    handles = [
        layer.register_forward_hook(lambda _, __, output, path=path: found.update({path: output}))
        for path, layer in layers.items()
    ]
    try:
        logits = answers(network, inputs, task)
    finally:
        for handle in handles:
            handle.remove()
    heads = tuple(
        path
        for path, output in found.items()
        if output.numel() == logits.numel() and torch.equal(output.reshape(logits.shape), logits)
    )
    if not heads:
        raise InputError(
            f"no layer of {type(network).__name__} gives its logits as they are, so that its head cannot be exchanged; "
            "expected a network that ends in a linear layer or a convolution"
        )
    return heads
