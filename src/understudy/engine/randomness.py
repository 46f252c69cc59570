"""Random generators: seeded from (seed, epoch), kept and put back, so that a resumed training draws the same."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from understudy.balancing import GradientNormFactors


def seed_all(seed: int, epoch: int, rank: int) -> None:
    """Seed Python, numpy and torch (all devices) from the three numbers.

    Args:
        seed: the training's seed.
        epoch: which epoch begins; each has numbers of its own, whatever was drawn before.
        rank: the process; dropout differs between processes.
    """
    mixed = int.from_bytes(hashlib.sha256(f"{seed}/{epoch}/{rank}".encode()).digest()[:8], "big") >> 1
    random.seed(mixed)
    np.random.seed(mixed % 2**32)
    torch.manual_seed(mixed)


def random_state() -> dict[str, Any]:
    """The states of all global generators, as JSON."""
    kind, keys, *rest = np.random.get_state()
    version, numbers, gauss = random.getstate()
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [kind, keys.tolist(), *rest],  # pyright: ignore[reportAttributeAccessIssue] - the legacy tuple
        "torch": encoded(torch.get_rng_state()),
        "cuda": [encoded(state) for state in _cuda_states()],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put back what :func:`random_state` returned."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(decoded(state["torch"]))
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([decoded(device) for device in state["cuda"]])


@contextmanager
def kept_randomness() -> Iterator[None]:
    """All global generators leave this context as they entered it."""
    state = random_state()
    try:
        yield
    finally:
        set_random_state(state)


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Run the network inside this context, even in train mode: generators, buffers and modes are put back."""
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    modes = {layer: layer.training for layer in module.modules()}
    passes = [(layer, layer.passes) for layer in module.modules() if isinstance(layer, GradientNormFactors)]
    with kept_randomness():
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)
            for layer, training in modes.items():
                layer.training = training
            for layer, made in passes:
                layer.passes = made


def encoded(state: Tensor) -> str:
    """A generator's state as text."""
    return base64.b64encode(state.numpy().tobytes()).decode()


def decoded(text: str) -> Tensor:
    """The inverse of :func:`encoded`."""
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)


def _cuda_states() -> list[Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
