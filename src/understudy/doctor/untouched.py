"""Looking without touching: whatever an examination moves is put back."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler

from understudy.balancing import GradientNormFactors
from understudy.distiller import Distiller
from understudy.engine.batches import LearningLoader
from understudy.gathering import alone
from understudy.teachers import Teacher
from understudy.teachers.live import live_network


@contextmanager
def untouched(distiller: Distiller, *loaders: Iterable[Any] | None) -> Iterator[None]:
    """Put back the modes and buffers of both networks and of the objective, and every random state.

    Of several processes each looks at its own part, which may be empty, so that none waits for the others' rows.

    Parameters and their ``.grad`` are not saved: inside, gradients are taken with ``torch.autograd.grad`` only.

    Args:
        distiller: what is examined.
        loaders: what is read from; a ``DataLoader`` with a generator of its own gets that one's state back, and a
            loader that learns forgets what it has learnt inside.
    """
    roots = [distiller, *networks(distiller.teacher).values()]
    modules = list(dict.fromkeys(module for root in roots for module in root.modules()))
    head_chunk, distiller.head_chunk = distiller.head_chunk, None  # all logits are looked at
    modes = [module.training for module in modules]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    passes = [(module, module.passes) for module in modules if isinstance(module, GradientNormFactors)]
    learnt = [
        (loader, {name: tensor.clone() for name, tensor in loader.state_dict().items()})
        for loader in loaders
        if isinstance(loader, LearningLoader)
    ]
    generators = [(generator, generator.get_state()) for loader in loaders for generator in _generators(loader)]
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        with alone():
            yield
    finally:
        distiller.head_chunk = head_chunk
        for module, training in zip(modules, modes, strict=True):
            module.training = training
        for module, made in passes:
            module.passes = made
        with torch.no_grad():
            for module, name, buffer, content in buffers:
                module._buffers[name] = buffer.copy_(content)
        for loader, state in learnt:
            loader.load_state_dict(state)
        for generator, state in generators:
            generator.set_state(state)
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


def networks(teacher: Teacher | None) -> dict[str, nn.Module]:
    """The live networks of a teacher, by the name of the attribute that holds them.

    A teacher is anything with ``observe``; a user's own class is searched through its attributes, lists and
    mappings of them, and the teachers among them. A teacher without a network (a recording) gives nothing.
    """
    if teacher is None:
        return {}
    if (network := live_network(teacher)) is not None:
        return {"teacher": network}
    if isinstance(teacher, nn.Module):
        return {"teacher": teacher}
    found: dict[str, nn.Module] = {}
    for name, value in getattr(teacher, "__dict__", {}).items():
        for suffix, item in _items(value):
            if isinstance(item, nn.Module):
                found[f"{name}{suffix}"] = item
            elif isinstance(item, Teacher) and item is not teacher:
                found |= {f"{name}{suffix}.{inner}": module for inner, module in networks(item).items()}
    return found


def _items(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f".{key}", item) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [(f".{index}", item) for index, item in enumerate(value)]
    return [("", value)]


def _generators(loader: Iterable[Any] | None) -> list[torch.Generator]:
    if not isinstance(loader, DataLoader):
        return []
    own = [loader.generator]
    if isinstance(loader.sampler, RandomSampler):
        own.append(loader.sampler.generator)
    return [generator for generator in dict.fromkeys(own) if generator is not None]
