"""A live network as a teacher."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import final

import torch
from torch import nn

from understudy.batch import Batch
from understudy.knowledge import Knowledge
from understudy.taps import Taps
from understudy.tasks.task import Task


@final
class ModuleTeacher:
    """A frozen network, run without gradients and in eval mode beside the student.

    It follows the batches to their device.

    Args:
        module: the network; it is put into eval mode here and at every step, and never trained.
        task: how the network is called.
        precision: the autocast type of its forward pass, None for full precision whatever the student uses.
    """

    def __init__(self, module: nn.Module, *, task: Task, precision: torch.dtype | None = None) -> None:
        self.module = module.eval()
        self.task = task
        self.precision = precision
        self._taps = Taps(module, ())
        self._device = next((parameter.device for parameter in module.parameters()), None)

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> Knowledge:
        """Logits and tapped features of the network, without gradients.

        Raises:
            InputError: for a layer that the network does not have.
        """
        if tuple(dict.fromkeys(taps)) != self._taps.paths:
            self._taps.remove()
            self._taps = Taps(self.module, taps)
        if self.module.training:
            self.module.eval()
        device = batch.device
        if device != self._device:
            self.to(device)
        with torch.no_grad(), self._autocast(device.type), self._taps.reading() as features:
            knowledge = self.task.observe(self.module, batch)
        return replace(knowledge, features=features)

    def _autocast(self, device: str) -> AbstractContextManager[object]:
        """The teacher's own precision, whatever surrounds the call; nothing where that is the same."""
        if self.precision is None and not torch.is_autocast_enabled(device):
            return nullcontext()
        return torch.autocast(device, dtype=self.precision, enabled=self.precision is not None)

    def to(self, device: torch.device | str) -> ModuleTeacher:
        """Move the network, in place."""
        self.module.to(device)
        self._device = torch.device(device)
        return self
