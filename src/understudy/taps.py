"""Reading intermediate layers, and parameters, of any network by dotted path."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from understudy.errors import InputError, nearest


class Taps:
    """Forward hooks on named layers of one model, installed once, read only in a forward that we asked for.

    A path is what ``model.named_modules()`` calls the layer, such as ``layer3.0.conv1``. When a layer returns
    several tensors, ``path:0`` takes one by position and ``path:hidden_states`` one by name. The path of a parameter,
    such as ``fc.weight``, reads the parameter itself: with its gradient, but as a constant where gradients are off.

    The hooks live on the instance, not the class; they are installed before ``torch.compile`` traces the model
    and compile with it. A layer that runs again outside our forward (activation checkpointing recomputes it in
    the backward pass) is not read twice. Wrappers (``torch.compile``, ``DistributedDataParallel``) are looked
    through, so that a path never depends on them. A layer that runs several times in one forward is read at its
    last run.

    Args:
        model: the network; nothing but hooks is added to it.
        paths: the layers to read; empty is fine.

    Raises:
        InputError: for a path that the model does not have, with the nearest ones.
    """

    def __init__(self, model: nn.Module, paths: Sequence[str]) -> None:
        self.paths = tuple(dict.fromkeys(paths))
        self._active = False
        self._seen: dict[str, Any] = {}
        self._versions: dict[str, int] = {}
        problems = unreadable(model, self.paths, "model")
        if problems:
            raise InputError("\n".join(problems))
        modules = dict(unwrapped(model).named_modules())
        layers = dict.fromkeys(map(layer_of, self.paths))
        self._owners = {path: modules[path.rpartition(".")[0]] for path in layers if path not in modules}
        self._handles = [
            modules[layer].register_forward_hook(_Remember(self, layer)) for layer in layers if layer in modules
        ]

    @contextmanager
    def reading(self) -> Iterator[dict[str, Tensor]]:
        """Run the model inside this context; the dictionary is filled, by path, when the context ends.

        Raises:
            InputError: when a layer was not reached, gave something that is not a tensor, or was overwritten in
                place by a later layer.
        """
        features: dict[str, Tensor] = {}
        self._seen.clear()
        self._active = True
        try:
            yield features
            features.update((path, self._tensor(path)) for path in self.paths)
        finally:
            self._active = False
            self._seen.clear()
            self._versions.clear()

    def _tensor(self, path: str) -> Tensor:
        layer = layer_of(path)
        if layer in self._owners:
            parameter = getattr(self._owners[layer], layer.rpartition(".")[2])
            return parameter if torch.is_grad_enabled() else parameter.detach()
        if layer not in self._seen:
            raise InputError(
                f"layer {layer!r} did not run in this forward pass. Expected it to run each time; either the "
                "model skips it (choose another layer), or the model was compiled and run before it was handed "
                "over (hand it over first, then call torch.compile)"
            )
        output = self._seen[layer]
        if ":" in path:
            output = _selected(output, path)
            if output is None:
                raise InputError(
                    f"layer {layer!r} gives None as {path!r}, expected a tensor. A Hugging Face transformer gives "
                    'attention matrices only when loaded with attn_implementation="eager"; else tap another output'
                )
        if not isinstance(output, Tensor):
            raise InputError(
                f"layer {layer!r} returns {_described(output)}, expected one tensor. "
                f"Take one of them with {_alternatives(output, layer)}"
            )
        if path in self._versions and output._version != self._versions[path]:
            raise InputError(
                f"what layer {layer!r} returned was overwritten in place by a later layer, so that it cannot be "
                "read. Tap the later layer, or make that one keep its input, such as with ReLU(inplace=False)"
            )
        return output

    def remove(self) -> None:
        """Take the hooks off the model again."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


class _Remember:
    """One hook. An object, not a closure, so that a deep copy of a model hands its features to the copied taps."""

    def __init__(self, taps: Taps, layer: str) -> None:
        self.taps = taps
        self.layer = layer

    def __call__(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if not self.taps._active:
            return
        self.taps._seen[self.layer] = output
        if not torch.compiler.is_compiling() and isinstance(output, Tensor) and not output.is_inference():
            self.taps._versions[self.layer] = output._version


def is_compiled(model: nn.Module) -> bool:
    """Whether the model is what ``torch.compile`` returned, or was compiled in place."""
    return model._compiled_call_impl is not None or returned_by_compiler(model)


def returned_by_compiler(model: nn.Module) -> bool:
    """Whether the model is what ``torch.compile`` returned; asking does not load the compiler (seconds)."""
    return "torch._dynamo" in sys.modules and isinstance(model, torch._dynamo.OptimizedModule)


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's own module inside ``torch.compile`` and data-parallel wrappers."""
    while True:
        if returned_by_compiler(model):
            model = model.get_submodule("_orig_mod")
        elif isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model


def layer_of(path: str) -> str:
    """The module's part of a tap path, without a selector such as ``:0``."""
    return path.partition(":")[0]


def of_member(name: str | None, path: str) -> str:
    """How a layer of one of several networks is asked for: ``big/layer3``."""
    return path if name is None else f"{name}/{path}"


def paths_of(name: str, taps: Sequence[str]) -> tuple[str, ...]:
    """The layers that are asked of one of several networks, by their paths in it."""
    return tuple(tap.removeprefix(f"{name}/") for tap in taps if tap.startswith(f"{name}/"))


def unreadable(model: nn.Module, paths: Iterable[str], whose: str) -> list[str]:
    """The error text for each layer and parameter that ``whose`` (student, teacher) does not have."""
    layers = [name for name, _ in unwrapped(model).named_modules()]
    parameters = [name for name, _ in unwrapped(model).named_parameters(remove_duplicate=False)]
    known, kinds = {*layers, *parameters}, {name.rpartition(".")[2] for name in parameters}
    missing = dict.fromkeys(layer for layer in map(layer_of, paths) if layer not in known)
    return [
        unknown_layer(layer, parameters if layer.rpartition(".")[2] in kinds else layers, whose, of=len(layers) - 1)
        for layer in missing
    ]


def unknown_layer(layer: str, known: Iterable[str], whose: str, *, of: int | None = None) -> str:
    """The error text for a layer that ``whose`` (student, teacher) does not have.

    Args:
        layer: what is not there.
        known: what could have been meant.
        whose: in words.
        of: how many layers there are; as many as are known, when not given.
    """
    known = list(known)
    count = sum(1 for name in known if name) if of is None else of
    return f"{whose} has no layer {layer!r}{nearest(layer, known)} (`understudy layers` lists all {count})"


def _selected(output: Any, path: str) -> Any:
    selector = path.partition(":")[2]
    if not isinstance(output, dict | tuple | list):
        raise InputError(f"layer {layer_of(path)!r} returns one {type(output).__name__}; write its path without ':'")
    key: Any = int(selector) if selector.isdigit() and not isinstance(output, dict) else selector
    try:
        return output[key]
    except (KeyError, IndexError, TypeError) as error:
        raise InputError(
            f"layer {layer_of(path)!r} returns {_described(output)}, which has no {selector!r}. "
            f"Take one of them with {_alternatives(output, layer_of(path))}"
        ) from error


def _described(output: Any) -> str:
    if isinstance(output, dict):
        return f"{type(output).__name__} with keys {', '.join(map(str, output))}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {len(output)}"
    return type(output).__name__


def _alternatives(output: Any, layer: str) -> str:
    keys = list(output) if isinstance(output, dict) else range(len(output)) if isinstance(output, tuple | list) else []
    return " or ".join(repr(f"{layer}:{key}") for key in list(keys)[:4]) or "another layer"
