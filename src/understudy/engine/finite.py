"""Noticing a loss or a gradient that is not finite, and finding out what was to blame."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.distiller import Step
from understudy.errors import RunError, listing

_DEFERRED = 8
"""On an accelerator the host looks at the losses every so many steps: reading one waits for the device."""


@dataclass(frozen=True)
class _Seen:
    step: int
    ids: Tensor | None
    loss: Tensor
    terms: dict[str, Tensor]
    faults: Tensor | None
    """Bool (batch,): to which samples only the teacher's answer is not finite. None: not looked at."""


class FiniteWatch:
    """Looks at every loss; at once on the CPU, a few steps late on an accelerator.

    Args:
        module: student and adapters; when a loss is not finite their weights tell whether the gradient of an
            earlier step was to blame.
        deferred: whether reading a number means waiting for a device.
    """

    def __init__(self, module: nn.Module, *, deferred: bool) -> None:
        self._module = module
        self._deferred = deferred
        self._seen: deque[_Seen] = deque(maxlen=_DEFERRED + 1 if deferred else 2)

    def look(self, step: int, output: Step, batch: Batch) -> None:
        """Look at the loss of one batch.

        Args:
            step: the number of the step that it belongs to, from 1.
            output: what the distiller gave.
            batch: what it was given.

        Raises:
            RunError: naming step, terms and samples.
        """
        faults = _faults_of_teacher(output) if self._deferred else None  # later the answers are no longer there
        self._seen.append(_Seen(step, batch.ids, output.loss.detach(), output.terms, faults))
        if not self._deferred:
            if not math.isfinite(output.loss.item()):
                self._seen[-1] = replace(self._seen[-1], faults=_faults_of_teacher(output))
                self._blame()
        elif len(self._seen) > _DEFERRED:
            self.settle()

    def settle(self) -> None:
        """Look at whatever was put off.

        Raises:
            RunError: naming step, terms and samples.
        """
        if self._deferred and self._seen:
            if not _finite([seen.loss for seen in self._seen]):
                self._blame()
            last = self._seen[-1]
            self._seen.clear()
            self._seen.append(last)

    def check_weights(self, step: int) -> None:
        """Look at the weights, before they are saved.

        Raises:
            RunError: when one is not finite, naming the step.
        """
        self.settle()
        broken = self._broken_weights()
        if broken:
            self._blame_gradient(step, self._seen[-1] if self._seen else None, broken)

    def _blame(self) -> NoReturn:
        position, bad = next(
            (position, seen) for position, seen in enumerate(self._seen) if not math.isfinite(seen.loss.item())
        )
        broken = self._broken_weights()
        if broken and position > 0 and not self._deferred:
            self._blame_gradient(self._seen[position - 1].step, self._seen[position - 1], broken)
        culprits = [label for label, value in bad.terms.items() if not math.isfinite(value.item())]
        values = ", ".join(f"{label} = {value.item():.4g}" for label, value in bad.terms.items())
        whose = f"term {listing(culprits)}" if culprits else "the sum of finite terms"
        if bad.faults is not None and bool(bad.faults.any()):
            ids = bad.ids if bad.ids is None or len(bad.ids) != len(bad.faults) else bad.ids[bad.faults]
            raise RunError(
                f"step {bad.step}: the loss is {bad.loss.item()}, because the teacher answers NaN or infinity"
                f"{_samples(ids)}. A teacher in float16 does that where its numbers become too large: let it compute "
                "in bfloat16 or float32, or look at these samples"
            )
        or_else = f", or from the gradient of step {bad.step - 1}" if self._deferred and bad.step > 1 else ""
        raise RunError(
            f"step {bad.step}: the loss is {bad.loss.item()}, from {whose} ({values}){or_else}{_samples(bad.ids)}. "
            "Look at these samples; otherwise a lower learning rate, clip_norm or warmup helps most often"
        )

    def _blame_gradient(self, step: int, seen: _Seen | None, broken: list[str]) -> NoReturn:
        raise RunError(
            f"step {step}: the loss was finite, but its gradient was not, and neither are the weights now "
            f"({listing(broken, most=3)}){_samples(seen.ids if seen is not None else None)}. "
            "A lower learning rate, clip_norm or warmup helps most often"
        )

    def _broken_weights(self) -> list[str]:
        parameters = dict(self._module.named_parameters())
        if _finite(list(parameters.values())):
            return []
        return [name for name, parameter in parameters.items() if not _finite([parameter])]


def _finite(tensors: list[Tensor]) -> bool:
    with torch.no_grad():
        return not tensors or bool(torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all().item())


def _faults_of_teacher(output: Step) -> Tensor | None:
    """To which samples of a batch only the teacher's answer is not finite."""
    if output.teacher is None or not len(output.student.logits):
        return None
    sides = (output.student, output.teacher)
    student, teacher = (each.computed.detach().isfinite().flatten(1).all(1) for each in sides)
    return student & ~teacher


def _samples(ids: Tensor | None) -> str:
    return f"; the samples of its batch: {listing([str(one) for one in ids.tolist()])}" if ids is not None else ""
