"""Checkpoints on disk: written whole or not at all, without pickle, and checked before they are used."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from understudy.errors import RunError
from understudy.files import file_digest
from understudy.spec import digest

_KEPT = 2
_SCHEMA = 1


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a training needs to go on.

    Attributes:
        step: steps that were made.
        tensors: weights, buffers and optimizer state, on the CPU.
        state: the rest, as JSON.
    """

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


class Checkpoints:
    """The checkpoints of one training: ``step-00000042.safetensors`` with ``step-00000042.json``.

    A checkpoint counts once its JSON is there, which is written last and holds checksums of the tensors and of
    itself. The last two are kept, so that one remains if the newest is damaged.

    Args:
        directory: where they are; made when the first one is written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Write a checkpoint and remove the ones before the last two.

        Raises:
            RunError: when it cannot be written, such as on a full disk; those before are intact.
        """
        target = self.directory / f"step-{step:08d}.safetensors"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            checksum = _write(target, lambda path: save_file(_savable(tensors), path))
            record = {"schema": _SCHEMA, "step": step, "sha256": checksum, "digest": digest(state), "state": state}
            _write(target.with_suffix(".json"), lambda path: path.write_text(json.dumps(record), encoding="utf-8"))
            _sync(self.directory)
            self._prune()
        except (OSError, SafetensorError) as error:
            self._discard(target)
            steps = self._steps()
            intact = f"the last good one, of step {steps[-1]}, is intact" if steps else "there is none before it"
            raise RunError(
                f"the checkpoint of step {step} could not be written to {self.directory}: {error}; {intact}. "
                "Free some space, or choose another directory, and run the same command again to go on"
            ) from error

    def load(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """The newest checkpoint that is whole, None when there is none.

        Args:
            warn: told about each damaged one that is passed over.
        """
        for step in reversed(self._steps()):
            target = self.directory / f"step-{step:08d}.safetensors"
            try:
                record = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))
                if file_digest(target) != record["sha256"]:
                    raise ValueError("its tensors do not have the checksum that was noted")
                if digest(record["state"]) != record["digest"]:
                    raise ValueError("its JSON does not have the digest that was noted")
                return Checkpoint(step, load_file(target), record["state"])
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                warn(f"checkpoint {target.name} is damaged ({error}); going back to the one before")
        return None

    def clear(self) -> None:
        """Remove all of them, and their directory."""
        for path in [*self.directory.glob("step-*.*"), *self.directory.glob("*.tmp")]:
            path.unlink(missing_ok=True)
        if self.directory.is_dir() and not any(self.directory.iterdir()):
            self.directory.rmdir()

    def _steps(self) -> list[int]:
        return sorted(int(path.stem.partition("-")[2]) for path in self.directory.glob("step-*.json"))

    def _prune(self) -> None:
        keep = {f"step-{step:08d}" for step in self._steps()[-_KEPT:]}
        for path in [*self.directory.glob("step-*.*"), *self.directory.glob("*.tmp")]:
            if path.name.partition(".")[0] not in keep or path.suffix == ".tmp":
                path.unlink(missing_ok=True)

    def _discard(self, target: Path) -> None:
        for path in [target, target.with_suffix(".json"), *self.directory.glob("*.tmp")]:
            path.unlink(missing_ok=True)


def _savable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous, and without two names for one storage, which the format does not allow."""
    seen: set[int] = set()
    savable = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        pointer = tensor.untyped_storage().data_ptr()
        savable[name] = tensor.clone() if pointer in seen else tensor
        seen.add(pointer)
    return savable


def _write(target: Path, write: Callable[[Path], object]) -> str:
    """Write under another name, down to the disk, then rename; returns the SHA-256."""
    temporary = target.with_name(target.name + ".tmp")
    write(temporary)
    checksum = file_digest(temporary)
    _sync(temporary)
    temporary.replace(target)
    return checksum


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flat(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with a prefix before each name."""
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def part(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`flat`."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of an optimizer: what is a tensor, and what is not."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            (tensors if isinstance(value, Tensor) else values)[f"{index}.{name}"] = value
    return tensors, values


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], values: dict[str, Any]) -> None:
    """Put back what :func:`optimizer_tensors` gave; learning rates and options stay those of the optimizer."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **values}.items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)]
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            # In the parameter's own memory layout: a fused optimizer walks through both side by side.
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
