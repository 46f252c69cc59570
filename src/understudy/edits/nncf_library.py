"""NNCF as this package uses it: without messages, without telemetry, without a compiler."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from torch import nn

from understudy.extras import imported
from understudy.foreign import quiet

HOOKS = "__nncf_hooks"
"""The submodule in which NNCF keeps what it adds to a network."""

_SENDS_NOTHING = {"NNCF_CI": "1", "CI": "true"}
"""What NNCF and its telemetry read while they are imported."""


def nncf_library(*, needed_by: str) -> Any:
    """NNCF, with its PyTorch side as ``.torch``.

    Its quantizers are torch operations: the extension in C++ that NNCF would compile on the first call gives the same
    bits forwards, and takes a compiler and a minute. It is used where somebody has loaded it before.

    Args:
        needed_by: what needs it, in words.

    Raises:
        InputError: when it is not installed.
    """
    with quiet(), _environment(_SENDS_NOTHING):
        imported("nncf.torch", extra="compress", needed_by=needed_by)
        library = imported("nncf", extra="compress", needed_by=needed_by)
        _take_torch_operations()
        _pass_through_hooks()
    return library


def is_quantized(network: nn.Module) -> bool:
    """Whether NNCF has added anything to a network."""
    return HOOKS in network._modules


def is_quantizer(layer: nn.Module) -> bool:
    """Whether a layer is one that NNCF has added; its parameters are ranges."""
    return type(layer).__module__.partition(".")[0] == "nncf"


def _take_torch_operations() -> None:
    extensions = imported("nncf.torch.quantization.extensions", extra="compress")
    reference = imported("nncf.torch.quantization.reference", extra="compress")
    operations = SimpleNamespace(
        Quantize_forward=reference.torch_executor.forward, Quantize_backward=reference.torch_executor.backward
    )
    for functions in vars(extensions).values():
        if isinstance(functions, extensions.ExtensionNamespace) and functions._loaded_namespace is None:
            functions._loaded_namespace = operations


def _pass_through_hooks() -> None:
    # NNCF keeps its hooks as one more layer of the network, and a network that is a Sequential calls all its layers.
    storage = imported("nncf.torch.function_hook.hook_storage", extra="compress").HookStorage
    storage.forward = _unchanged


def _unchanged(_: nn.Module, inputs: Any) -> Any:
    return inputs


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
