"""What a model costs whatever the machine: parameters, multiplications, bytes on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from understudy.edits.nncf_library import HOOKS
from understudy.sources.forward import call, device_of, evaluating, moved, resized
from understudy.sources.state import write_state
from understudy.taps import unwrapped


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model costs.

    Attributes:
        parameters: numbers in its parameters, shared ones counted once; ranges of quantizers are constants.
        macs: multiply-accumulate operations of one sample, in matrix products, convolutions and attention.
        size_bytes: its weights and buffers as a safetensors file.
    """

    parameters: int
    macs: int
    size_bytes: int


def cost(model: nn.Module, inputs: Any) -> Cost:
    """Count parameters, the multiply-accumulates of one sample, and the bytes on disk.

    Half the floating-point operations that ``torch.utils.flop_counter`` sees in one forward pass in eval mode;
    element-wise work (activations, normalisations) is not in it, as in published numbers.

    Args:
        model: wrappers such as ``torch.compile`` are looked through; it is left as it was.
        inputs: an example batch's inputs; the first sample is used.
    """
    inner = unwrapped(model)
    return Cost(
        parameters=sum(parameter.numel() for name, parameter in inner.named_parameters() if not name.startswith(HOOKS)),
        macs=macs(inner, inputs),
        size_bytes=_size(inner),
    )


def macs(model: nn.Module, inputs: Any) -> int:
    """Count the multiply-accumulates of one sample, and nothing else; see :func:`cost`.

    Args:
        model: wrappers are looked through; it is left as it was.
        inputs: an example batch's inputs; the first sample is used.
    """
    inner = unwrapped(model)
    sample = moved(resized(inputs, 1), device_of(inner))
    from torch.utils.flop_counter import FlopCounterMode  # a quarter of a second that few imports need

    counter = FlopCounterMode(display=False)
    with evaluating(inner), torch.no_grad(), torch.random.fork_rng(devices=[]), _countable(), counter:
        call(inner, sample)
    return counter.get_total_flops() // 2


def _size(model: nn.Module) -> int:
    with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
        path = Path(folder) / "model.safetensors"
        write_state(model, path)
        return path.stat().st_size


@contextmanager
def _countable() -> Iterator[None]:
    # In eval mode torch's own attention takes a fused path of which the counter sees nothing: a third of a ViT. Before
    # torch 2.15 it does not see attention's kernel for the CPU either; written out as matrix products it is counted. So
    # are recurrent layers without the libraries that compute a whole layer at once.
    libraries: tuple[Any, ...] = (torch.backends.mkldnn, torch.backends.cudnn)
    before = torch.backends.mha.get_fastpath_enabled(), [library.enabled for library in libraries]
    torch.backends.mha.set_fastpath_enabled(False)
    for library in libraries:
        library.enabled = False
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before[0])
        for library, enabled in zip(libraries, before[1], strict=True):
            library.enabled = enabled
