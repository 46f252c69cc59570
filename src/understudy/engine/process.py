"""This process among those of the run; the one door to Accelerate."""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DataLoaderConfiguration, DistributedType
from torch import Tensor, nn
from torch.utils.data import DataLoader

from understudy.engine.randomness import undisturbed
from understudy.errors import InputError

_SUPPORTED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU, DistributedType.MULTI_XPU)


@dataclass(frozen=True)
class Process:
    """One process of a run.

    Attributes:
        rank: its number, 0 in a run of one.
        world: how many there are.
        is_main: whether it is the one that writes.
        device: where it computes.
    """

    rank: int
    world: int
    is_main: bool
    device: torch.device

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.world > 1:
            torch.distributed.barrier()

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.world > 1:
            tensor = tensor.clone()
            torch.distributed.all_reduce(tensor)
        return tensor

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite the tensors with those of the main process."""
        if self.world > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, 0)

    def told(self, value: Any) -> Any:
        """A JSON value as the main process has it."""
        if self.world == 1:
            return value
        text = json.dumps(value).encode() if self.is_main else b""
        length = torch.tensor(len(text), device=self.device)
        self.broadcast([length])
        payload = torch.zeros(int(length), dtype=torch.uint8, device=self.device)
        if self.is_main:
            payload.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        self.broadcast([payload])
        return json.loads(payload.cpu().numpy().tobytes())

    def gathered(self, value: Any) -> list[Any]:
        """A JSON value of each process, in the order of their ranks."""
        if self.world == 1:
            return [value]
        text = json.dumps(value).encode()
        longest = torch.tensor(len(text), device=self.device)
        torch.distributed.all_reduce(longest, torch.distributed.ReduceOp.MAX)
        mine = torch.frombuffer(bytearray(text.ljust(int(longest))), dtype=torch.uint8).to(self.device)
        everyone = [torch.empty_like(mine) for _ in range(self.world)]
        torch.distributed.all_gather(everyone, mine)
        return [json.loads(payload.cpu().numpy().tobytes()) for payload in everyone]


@functools.cache
def _leave_in_order() -> None:
    """Take the group of processes down before the interpreter: gloo aborts when its threads outlive it."""

    def leave() -> None:
        gc.collect()  # a data-parallel wrapper that waits in a cycle holds the group, and its threads, too
        PartialState().destroy_process_group()

    atexit.register(leave)


def process() -> Process:
    """This process; joins the others that ``torchrun`` or ``accelerate launch`` started.

    Raises:
        InputError: for a way of distributing that fit does not support.
    """
    accelerator = make_accelerator()
    if accelerator.distributed_type not in _SUPPORTED:
        raise InputError(
            f"fit runs in one process or data-parallel, got {accelerator.distributed_type.value}; start it with "
            "torchrun, or put the Distiller into a loop of your own"
        )
    if accelerator.num_processes > 1:
        _leave_in_order()
    return Process(
        accelerator.process_index, accelerator.num_processes, accelerator.is_main_process, accelerator.device
    )


def make_accelerator(*, trackers: Sequence[str] = (), directory: Path | None = None) -> Accelerator:
    """Accelerate, set up the way fit uses it: autocast is ours, and a user's loader gives global batches.

    Raises:
        InputError: when Accelerate was already set up in another way in this process.
    """
    # Without an accelerator, Accelerate joins the processes that torchrun started only if told to use the CPU.
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    try:
        return Accelerator(
            cpu=launched and not torch.accelerator.is_available(),
            mixed_precision="no",
            log_with=list(trackers) or None,
            project_dir=directory,
            dataloader_config=DataLoaderConfiguration(split_batches=True),
        )
    except ValueError as error:
        raise InputError(f"Accelerate cannot be set up: {error}") from error


def data_parallel(distiller: nn.Module, batch: Any, current: Process) -> nn.Module:
    """The distiller with its gradients averaged over the processes; itself when there is only one.

    One forward and backward pass shows whether some parameters get no gradient, which costs a search at every
    step, so that it is only asked for where it is needed.

    Args:
        distiller: student and adapters; the teacher is no submodule and is not synchronised.
        batch: a batch of the training, on the device.
        current: this process.
    """
    if current.world == 1:
        return distiller
    trained = [parameter for parameter in distiller.parameters() if parameter.requires_grad]
    with undisturbed(distiller):
        distiller.train()
        loss = distiller(batch, progress=0.0).loss
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
    unused = current.sum(torch.tensor(sum(gradient is None for gradient in gradients), device=current.device))
    devices = None if current.device.type == "cpu" else [current.device]
    return nn.parallel.DistributedDataParallel(
        distiller, device_ids=devices, find_unused_parameters=bool(unused.item())
    )


def shared_loader(loader: DataLoader[Any], current: Process) -> DataLoader[Any]:
    """This process's part of each batch of a user's loader; an incomplete last batch is filled from its start."""
    return make_accelerator().prepare_data_loader(loader, device_placement=False) if current.world > 1 else loader
