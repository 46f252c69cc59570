"""Weights on disk: safetensors, nothing else."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from understudy.errors import InputError, listing, nearest
from understudy.files import replacing
from understudy.taps import unwrapped

_PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")
_WRAPPERS = ("_orig_mod.", "module.")
_NESTED = ("state_dict", "model_state_dict", "model", "model_state", "student")


def write_state(model: nn.Module, path: Path) -> None:
    """Write a model's weights as one safetensors file, whole or not at all; tied weights are written once.

    Args:
        model: wrappers such as ``torch.compile`` are looked through.
        path: the file, replaced if it exists.

    Raises:
        RunError: when the disk does not take it; what was there before is intact.
    """
    kept: dict[tuple[Any, ...], tuple[str, Tensor]] = {}
    for name, tensor in sorted(unwrapped(model).state_dict().items()):
        kept.setdefault((*_place(tensor), tensor.stride()), (name, tensor))
    with replacing(path) as temporary:
        safetensors.torch.save_file({name: _alone(tensor) for name, tensor in kept.values()}, temporary)


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, onto the CPU.

    Raises:
        InputError: when it is missing, damaged, or a pickle.
    """
    refuse_pickle(path)
    if not path.is_file():
        here = [str(found) for found in path.parent.glob("*.safetensors")] if path.parent.is_dir() else []
        raise InputError(f"there is no file {path}{nearest(str(path), here)}")
    try:
        return safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise InputError(
            f"{path} is not a whole safetensors file ({error}); write it again, or take an intact copy"
        ) from error


def refuse_pickle(path: Path) -> None:
    """Refuse files that run code when they are read.

    Raises:
        InputError: naming the way to convert them.
    """
    if path.suffix.lower() in _PICKLED:
        raise InputError(
            f"{path} is a pickled checkpoint, which can run any code when it is read; expected .safetensors. Convert "
            'its weights once: python -c "from understudy.sources import convert_state; '
            f"convert_state('{path}', '{path.with_suffix('.safetensors')}')\""
        )


def load_state(model: nn.Module, state: Mapping[str, Tensor], *, whose: str) -> None:
    """Put weights into a model; every weight must be there, none left over, all in the right shape.

    A weight that the model ties to another one may be missing. The model is changed only if all is well.

    Args:
        model: wrappers such as ``torch.compile`` are looked through.
        state: the weights by name.
        whose: where they come from, for the error.

    Raises:
        InputError: naming what does not fit.
    """
    inner = unwrapped(model)
    own = inner.state_dict()
    loaded = {_place(tensor) for key, tensor in own.items() if key in state}
    missing = [key for key, tensor in own.items() if key not in state and _place(tensor) not in loaded]
    unexpected = [key for key in state if key not in own]
    shapes = [key for key, tensor in state.items() if key in own and own[key].shape != tensor.shape]
    problems = []
    if missing:
        problems.append(f"{len(missing)} weights of the model are missing ({listing(missing, most=4)})")
    if unexpected:
        hint = nearest(unexpected[0], missing)
        problems.append(f"{len(unexpected)} are not of the model ({listing(unexpected, most=4)}{hint})")
    problems += [
        f"{key!r} has shape {tuple(state[key].shape)}, the model has {tuple(own[key].shape)}" for key in shapes[:4]
    ]
    if problems:
        raise InputError(
            f"{whose} does not fit {type(inner).__name__}: {'; '.join(problems)}. "
            "Expected the weights of exactly this architecture; compare its arguments and the number of classes"
        )
    inner.load_state_dict(dict(state), strict=False)


def convert_state(path: str | Path, to: str | Path) -> None:
    """Turn a checkpoint that ``torch.save(model.state_dict(), path)`` wrote into a safetensors file.

    Only tensors are read (``weights_only=True``), no code is run. One level of nesting (``{"state_dict": …}``) and
    the prefixes of wrappers (``module.``, ``_orig_mod.``) are taken away.

    Args:
        path: the checkpoint.
        to: the file to write; existing weights are replaced.

    Raises:
        InputError: when it is not a state dict.
    """
    state = read_checkpoint(Path(path))
    with replacing(Path(to)) as temporary:
        # Tensors that share memory cannot be written twice; copies can.
        safetensors.torch.save_file({key: tensor.clone().contiguous() for key, tensor in state.items()}, temporary)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a pickled checkpoint without running any code.

    Raises:
        InputError: when there is no such file, or something else than tensors in it.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(
            f"{path} holds more than weights (a whole pickled model?), or is damaged, and is not read: reading it "
            "could run any code. Where the model's code is at home, torch.save(model.state_dict(), 'weights.pt') and "
            "convert that file"
        ) from error
    if isinstance(found, Mapping) and not _is_state(found):
        nested = [key for key in _NESTED if _is_state(found.get(key))]
        found = found[nested[0]] if len(nested) == 1 else found
    if not _is_state(found):
        shown = (
            f"a dict with {listing([str(key) for key in found])}"
            if isinstance(found, Mapping)
            else type(found).__name__
        )
        raise InputError(f"{path} holds {shown}, expected a state dict: names and tensors")
    return _without_wrappers(dict(found))


def _alone(tensor: Tensor) -> Tensor:
    """A contiguous tensor that shares its memory with no other, as a file needs it."""
    whole = tensor.contiguous()
    return whole if whole.untyped_storage().nbytes() == whole.nbytes else whole.clone()


def _place(tensor: Tensor) -> tuple[Any, ...]:
    # Empty tensors all live at address 0.
    return (tensor.device, tensor.data_ptr(), tensor.shape) if tensor.numel() else (id(tensor),)


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) > 0 and all(isinstance(item, Tensor) for item in value.values())


def _without_wrappers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _WRAPPERS:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state
