"""Is the teacher left alone: in eval mode, without gradients, apart from the student, the same afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from understudy.batch import Batch, rows
from understudy.distiller import Distiller
from understudy.doctor.findings import Finding
from understudy.doctor.untouched import networks
from understudy.errors import RunError, listing
from understudy.knowledge import Knowledge
from understudy.teachers import Teacher, stateful_teachers

TOLERANCE = 0.05
"""Mean difference between two answers that must be equal, as a part of the answers' own spread."""


class TeacherWatch:
    """The teacher's weights and buffers, hashed now, compared later.

    A teacher without a live network (a recording) is never found changed, nor is one that changes by its own rule.

    Args:
        teacher: the teacher, or the distiller that has one.
    """

    def __init__(self, teacher: Distiller | Teacher | None) -> None:
        self._teacher = teacher.teacher if isinstance(teacher, Distiller) else teacher
        self._before = _hashes(self._teacher)

    def changed(self) -> list[str]:
        """Dotted names of the weights and buffers that are no longer what they were."""
        after = _hashes(self._teacher)
        return [name for name in self._before | after if self._before.get(name) != after.get(name)]

    def check(self) -> None:
        """Compare now.

        Raises:
            RunError: naming what changed.
        """
        changed = self.changed()
        if changed:
            raise RunError(
                f"the teacher changed during the run: {listing(changed)}. Expected the same weights and buffers "
                "before and after. Keep it in eval mode, keep its parameters out of the optimizer, and share no "
                "layer between it and the student"
            )


def check_freezing(distiller: Distiller, batch: Batch) -> list[Finding]:
    """A teacher that trains, leaks gradients, shares weights with the student, or answers at random.

    The teacher is asked a few times; whatever that changes has to be put back by the caller (see ``untouched``).
    """
    teacher = distiller.teacher
    if teacher is None:
        return []
    taps = distiller.teacher_taps
    with torch.enable_grad():
        watch = TeacherWatch(teacher)
        first = teacher.observe(batch, taps)
        second = teacher.observe(batch, taps).logits.detach()
        backwards = torch.arange(len(batch) - 1, -1, -1, device=first.logits.device)
        turned = teacher.observe(rows(batch, backwards), taps).logits.detach()
    training = _training(teacher)
    findings = [*training, *_leaking(first), *_sharing(distiller.student, teacher)]
    if training:
        return findings  # it explains whatever else moves
    findings += _changing(watch.changed())
    logits = first.logits.detach()
    if _differ(logits, second):
        findings.append(_random(logits, second))
    elif len(logits) == len(batch) and _differ(logits[backwards], turned):
        findings.append(_deaf(logits[backwards], turned))
    return findings


def _training(teacher: Teacher) -> list[Finding]:
    modes = [
        path or "the whole network"
        for network in networks(teacher).values()
        for path, module in network.named_modules()
        if module.training
    ]
    if not modes:
        return []
    return [
        Finding(
            check="teacher_frozen",
            severity="error",
            message="the teacher runs in train mode; expected eval mode at every step",
            seen=f"after it answered, still in train mode: {listing(modes, most=4)}",
            remedy="call teacher.eval() and leave its layers alone, or hand the network itself to the distiller",
        )
    ]


def _leaking(knowledge: Knowledge) -> list[Finding]:
    tensors = {"logits": knowledge.logits, **knowledge.features}
    leaking = [name for name, tensor in tensors.items() if tensor.requires_grad]
    if not leaking:
        return []
    return [
        Finding(
            check="teacher_frozen",
            severity="error",
            message="the loss would send gradients into the teacher; expected answers that are detached",
            seen=f"requires_grad is set on its {listing(leaking)}",
            remedy="run it under torch.no_grad(), or hand the network itself to the distiller",
        )
    ]


def _sharing(student: nn.Module, teacher: Teacher) -> list[Finding]:
    trained = {_place(tensor): name for name, tensor in _trained(student) if tensor.numel()}
    shared = [
        trained[_place(tensor)]
        for network in networks(teacher).values()
        for _, tensor in _state(network)
        if tensor.numel() and _place(tensor) in trained
    ]
    if not shared:
        return []
    return [
        Finding(
            check="teacher_shares_weights",
            severity="error",
            message="teacher and student share weights, so training one changes the other; expected two networks",
            seen=f"in the same memory: the student's {listing(shared, most=4)}",
            remedy="give the student a copy: copy.deepcopy(network)",
        )
    ]


def check_apart(changed: Sequence[str]) -> list[Finding]:
    """A teacher that changed while only the student ran: they share buffers, such as batch statistics.

    Args:
        changed: what a :class:`TeacherWatch` found after the student ran in train mode.
    """
    if not changed:
        return []
    return [
        Finding(
            check="teacher_shares_weights",
            severity="error",
            message="the teacher changes when the student trains; expected two networks that share nothing",
            seen=f"different after a training step without an optimizer: {listing(changed, most=4)}",
            remedy="give the student a copy: copy.deepcopy(network)",
        )
    ]


def _changing(changed: Sequence[str]) -> list[Finding]:
    if not changed:
        return []
    return [
        Finding(
            check="teacher_frozen",
            severity="error",
            message="the teacher changes when it is asked; expected the same weights and buffers afterwards",
            seen=f"different after three questions: {listing(changed, most=4)}",
            remedy="put it into eval mode, so that batch normalisation keeps its statistics",
        )
    ]


def _random(first: Tensor, second: Tensor) -> Finding:
    return Finding(
        check="teacher_answers",
        severity="error",
        message="the teacher answers the same batch differently each time; expected one answer per sample",
        seen=f"two calls gave {_compared(first, second)}",
        remedy="put it into eval mode (dropout off), or look its answers up by sample id instead of by turn",
    )


def _deaf(expected: Tensor, received: Tensor) -> Finding:
    return Finding(
        check="same_samples",
        severity="error",
        message="the teacher's answers do not follow the samples; expected the answer to each sample in its row",
        seen=f"asked with the rows turned round its answers did not turn: {_compared(expected, received)}",
        remedy="look recorded answers up by `batch.ids`, never by position",
    )


def _compared(first: Tensor, second: Tensor) -> str:
    if first.shape != second.shape:
        return f"logits of shape {tuple(first.shape)} and {tuple(second.shape)}"
    return f"logits that differ by {_mean_difference(first, second):.3g} on average"


def _mean_difference(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().mean())


def _differ(first: Tensor, second: Tensor) -> bool:
    """Whether two answers differ by more than arithmetic does."""
    if first.shape != second.shape:
        return True
    spread = float((first - first.mean()).abs().mean())
    return _mean_difference(first, second) > TOLERANCE * spread


def _trained(student: nn.Module) -> list[tuple[str, Tensor]]:
    """What changes in a student while it trains: trainable parameters, and the statistics of normalisation layers."""
    parameters = [(name, each) for name, each in student.named_parameters() if each.requires_grad]
    statistics = [
        (f"{path}.{name}", each)
        for path, module in student.named_modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        for name, each in module.named_buffers()
    ]
    return parameters + statistics


def _state(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _place(tensor: Tensor) -> tuple[str, int]:
    return str(tensor.device), tensor.untyped_storage().data_ptr()


def _hashes(teacher: Teacher | None) -> dict[str, str]:
    """SHA-256 of each parameter and buffer that is to stay as it is, by network and dotted name."""
    moving = [module for one in stateful_teachers(teacher).values() for module in networks(one).values()]
    return {
        f"{label}.{name}": hashlib.sha256(_bytes(tensor)).hexdigest()
        for label, network in networks(teacher).items()
        if not any(network is each for each in moving)
        for name, tensor in _state(network)
    }


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
