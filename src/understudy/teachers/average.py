"""The student's own past as its teacher."""

from __future__ import annotations

import copy
import functools
import weakref
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.optim.swa_utils import get_ema_multi_avg_fn

from understudy.batch import Batch
from understudy.errors import InputError, listing
from understudy.knowledge import Knowledge
from understudy.taps import unwrapped
from understudy.tasks.task import Task
from understudy.teachers.module import ModuleTeacher


@final
class AverageTeacher:
    r"""A moving average of the student's own weights, as they were after each step of the optimizer.

    .. math:: \theta'_t = \alpha_t\, \theta'_{t-1} + (1 - \alpha_t)\, \theta_t, \qquad
        \alpha_t = \min\!\left(1 - \frac{1}{t + 1},\; \text{decay}\right), \qquad \theta'_0 = \theta_0

    t counts the steps, so that at first it is the plain mean of all weights so far, and of ``decay`` only later.

    No call is needed in any loop: asked for an answer, it first takes up the weights if the student has made a step
    since. It sees every step of a ``torch.optim`` optimizer, however implemented, and every other change in place.
    What leaves no trace has to be told by :meth:`take_up`: writing through ``.data``, or a step of a fused optimizer
    that runs inside ``torch.compile``. A loss that ``GradScaler`` finds infinite is no step, except for a fused
    optimizer, which skips on the device: then the same weights are taken up once more.

    It answers in eval mode, with the student's batch statistics (buffers are copied). The authors leave it in
    train mode with noise of its own; without it one sample has one answer, as with every other teacher here. The
    student therefore needs what makes it differ from its average: dropout, augmentation, or simply its steps. The
    authors start the average from other random weights, this one from the student's.

    The average is never part of the student or of its ``state_dict``. A loop of one's own saves ``state_dict()`` beside
    the student's, and loads the student's first.

    Args:
        student: the network that trains; it is copied.
        decay: of the average, at least 0 and below 1; the authors use 0.99 at first and 0.999 later.
        task: how the network is called.

    Raises:
        InputError: for another decay, or weights of 16 bits, in which such an average would not move.

    Example:
        >>> from understudy.tasks import Classification
        >>> student = nn.Linear(1, 1, bias=False)
        >>> teacher = AverageTeacher(student, decay=0.999, task=Classification())
        >>> with torch.no_grad():
        ...     _ = student.weight.add_(1.0)
        >>> before = teacher.module.weight.item()
        >>> _ = teacher.observe(Batch(inputs=torch.ones(1, 1)))
        >>> round(teacher.module.weight.item() - before, 4)
        0.5

    References:
        Tarvainen, Valpola: Mean teachers are better role models, NeurIPS 2017 (arXiv:1703.01780), eq. 1. The
        warm-up is that of their code; the paper has two values of decay.
    """

    def __init__(self, student: nn.Module, *, decay: float = 0.999, task: Task) -> None:
        if not 0.0 <= decay < 1.0:
            raise InputError(f"the decay of the average must be at least 0 and below 1, got {decay}")
        self.decay = decay
        self.steps = 0
        self.answering = ModuleTeacher(_apart(student), task=task)
        self._student = unwrapped(student)
        self._versions = self._seen()
        self._stepped = False
        _following().add(self)

    @property
    def module(self) -> nn.Module:
        """The average as a network."""
        return self.answering.module

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> Knowledge:
        """Logits and tapped features of the average, without gradients, after the student's newest step.

        Raises:
            InputError: for a layer that the network does not have.
        """
        self._follow()
        return self.answering.observe(batch, taps)

    def take_up(self) -> None:
        """Count the student's weights in as those of one more step; only for steps that leave no trace."""
        self.steps += 1
        first = next(self._student.parameters(), None)
        if first is not None and first.device != next(self.module.parameters()).device:
            self.answering.to(first.device)
        trained: tuple[list[Tensor], list[Tensor]] = ([], [])
        with torch.no_grad():
            for average, weights in zip(self.module.parameters(), self._student.parameters(), strict=True):
                if weights.requires_grad:
                    trained[0].append(average)
                    trained[1].append(weights)
                else:
                    average.copy_(weights)
            if trained[0]:
                decay = min(1.0 - 1.0 / (self.steps + 1), self.decay)
                get_ema_multi_avg_fn(decay)(*trained, self.steps)
            for average, buffer in zip(self.module.buffers(), self._student.buffers(), strict=True):
                average.copy_(buffer)
        self._noted()

    def state_dict(self) -> dict[str, Tensor]:
        """The average, how many steps it has seen, and its decay."""
        self._follow()
        average = {f"module.{name}": tensor for name, tensor in self.module.state_dict().items()}
        return {"steps": torch.tensor(self.steps), "decay": torch.tensor(self.decay, dtype=torch.float64), **average}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state_dict` gave; the student has its weights of that moment already.

        Raises:
            InputError: for the average of another network, or of another decay.
        """
        decay = float(state["decay"])
        if decay != self.decay:
            raise InputError(f"the state is that of an average with decay {decay}, expected {self.decay}")
        average = {name.removeprefix("module."): state[name] for name in state if name.startswith("module.")}
        own = self.module.state_dict()
        strange = [name for name in own.keys() | average.keys() if _shape(own, name) != _shape(average, name)]
        if strange:
            raise InputError(f"the state is that of another network; not the same in both: {listing(sorted(strange))}")
        self.module.load_state_dict(average)
        self.steps = int(state["steps"])
        self._noted()

    def _follow(self) -> None:
        """Take up the student's weights if they are newer than those that were taken up last."""
        if self._stepped or self._seen() != self._versions:
            self.take_up()

    def _seen(self) -> list[int]:
        """Each parameter counts the changes in place that autograd knows of."""
        return [parameter._version for parameter in self._student.parameters()]

    def _noted(self) -> None:
        self._versions, self._stepped = self._seen(), False

    def _after_step(self, optimizer: Optimizer) -> None:
        """Fused optimizers change weights without counting it."""
        if not self._stepped:
            updated = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            self._stepped = any(id(parameter) in updated for parameter in self._student.parameters())


def _apart(student: nn.Module) -> nn.Module:
    """A frozen copy of a network, for an average of its weights."""
    average = copy.deepcopy(unwrapped(student)).requires_grad_(requires_grad=False)
    small = {str(each.dtype) for each in average.parameters() if each.is_floating_point() and each.itemsize < 4}
    if small:
        raise InputError(
            f"the student's weights are {listing(sorted(small))}, too coarse for the small steps of an average; "
            "expected float32. Keep the weights in float32 and use autocast"
        )
    return average


@functools.cache
def _following() -> weakref.WeakSet[AverageTeacher]:
    """All living averages; from the first one on, they are told of every step of every optimizer."""
    teachers: weakref.WeakSet[AverageTeacher] = weakref.WeakSet()

    def told(optimizer: Optimizer, _arguments: tuple[Any, ...], _named: dict[str, Any]) -> None:
        for teacher in teachers:
            teacher._after_step(optimizer)

    register_optimizer_step_post_hook(told)
    return teachers


def _shape(state: Mapping[str, Tensor], name: str) -> torch.Size | None:
    return state[name].shape if name in state else None
