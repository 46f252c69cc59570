"""Everything around the loop that reads or writes: quality, records, trackers, checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from understudy.distiller import Distiller
from understudy.engine.batches import Batches
from understudy.engine.checkpoints import Checkpoint, Checkpoints, flat, optimizer_tensors, part, restore_optimizer
from understudy.engine.history import MetricsLog, Record
from understudy.engine.loop import Loop, Place
from understudy.engine.pace import Pace
from understudy.engine.plan import Plan
from understudy.engine.process import Process
from understudy.engine.progress import Progress
from understudy.engine.randomness import kept_randomness, random_state
from understudy.engine.trackers import Trackers
from understudy.engine.training import Training
from understudy.errors import InputError
from understudy.measure.quality import judge
from understudy.spec import digest
from understudy.teachers import ModuleTeacher, RuntimeTeacher, Teacher, stateful_teachers

_FREE_TO_CHANGE = {"checkpoint_every"}


class Journal:
    """What the loop measures with and writes to.

    Args:
        distiller: what is trained.
        val: validation data, None for none.
        batches: the training data; what a loader learns goes into the checkpoints.
        directory: where to write, None for nowhere.
        current: this process; only the main one writes.
        progress: who is told.
        identity: what a checkpoint must have in common with this training.
    """

    def __init__(
        self,
        distiller: Distiller,
        val: Any,
        batches: Batches,
        *,
        directory: Path | None,
        current: Process,
        progress: Progress,
        identity: dict[str, Any],
    ) -> None:
        self._distiller, self._val, self._batches, self._directory = distiller, val, batches, directory
        self._process, self._progress, self._identity = current, progress, identity
        self._checkpoints = Checkpoints(directory / "checkpoints") if directory is not None else None
        self._log = MetricsLog(directory / "metrics.jsonl") if directory is not None and current.is_main else None
        self._trackers: Trackers | None = None
        self.plan: Plan | None = None

    def load(self) -> Checkpoint | None:
        """The checkpoint to go on from.

        Raises:
            InputError: when it belongs to another training, naming what differs.
        """
        saved = self._checkpoints.load(self._progress.message) if self._checkpoints is not None else None
        if saved is None:
            return None
        changes = _differences(saved.state["identity"], self._identity)
        if changes:
            raise InputError(
                f"{self._directory} holds a checkpoint of another training: {'; '.join(changes[:5])}. Train with the "
                f"same settings, choose another directory, or remove {self._directory}/checkpoints to begin anew"
            )
        self._progress.message(f"going on from the checkpoint of step {saved.step:,}")
        return saved

    def begin(self, loop: Loop, saved: Checkpoint | None, trackers: Sequence[str]) -> None:
        """Put the loop where the checkpoint was, and open what is written to."""
        if saved is not None:
            _restore(loop, saved, self._process.rank)
            self._batches.set_learnt(part("loader.", saved.tensors))
        if self._log is not None:
            self._log.rewrite(loop.place.history)
        if self._process.is_main:
            self._trackers = Trackers(trackers, self._directory, self._identity)
        self._progress.begin(round(loop.total / loop.steps_per_epoch, 3), loop.total, loop.place.samples)

    def quality(self, model: nn.Module) -> dict[str, float] | None:
        """Metrics on the validation data, seen by the main process, the headline first."""
        if self._val is None:
            return None
        found: dict[str, float] = {}
        if self._process.is_main:
            with kept_randomness():
                task = self._distiller.task
                # Where nobody knows the true answers, those of the teacher are what the student is to give.
                reference = None if task.labelled else self._distiller.teacher
                judged = judge({"model": model}, self._val, task, reference=reference, device=self._process.device)
                found = judged["model"].quality()
        found = self._process.told(found)
        headline = self._distiller.task.metric
        return {headline: found[headline], **found}

    def record(self, record: Record) -> None:
        """Write a record to the log and to the trackers."""
        if self._log is not None:
            self._log.append(record)
        if self._trackers is not None:
            self._trackers.log(record)

    def checkpoint(self, loop: Loop) -> None:
        """Write a checkpoint."""
        if self._checkpoints is None:
            return
        assert self.plan is not None  # chosen before the loop
        each = self._process.gathered({"random": random_state(), "meter": loop.meter.state()})
        if self._process.is_main:
            tensors, state = _snapshot(loop)
            tensors |= flat("loader.", self._batches.learnt())
            state |= {"identity": self._identity, "plan": self.plan.model_dump(mode="json"), "each": each}
            self._checkpoints.save(loop.place.step, tensors, state)

    def end(self) -> None:
        """Close what is written to."""
        if self._trackers is not None:
            self._trackers.finish()
        self._progress.end()

    def clear(self) -> None:
        """Remove the checkpoints of a training that is over."""
        if self._checkpoints is not None and self._process.is_main:
            self._checkpoints.clear()


def _snapshot(loop: Loop) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Everything of a loop that a checkpoint holds: tensors, and the rest as JSON."""
    moments, values = optimizer_tensors(loop.optimizer)
    tensors = {
        **flat("student.", loop.distiller.student.state_dict()),
        **flat("objective.", loop.distiller.objective.state_dict()),
        **flat("optimizer.", moments),
        **flat("average.", loop.average.state_dict() if loop.average is not None else {}),
        **flat("teacher.", _teacher_state(loop.distiller)),
        **flat("best.", loop.best_state or {}),
    }
    place = {**asdict(loop.place), "seconds": loop.seconds}
    state = {"place": place, "optimizer": values, "scaler": loop.scaler.state_dict(), "loader": loop.epoch_generators}
    return tensors, state


def _teacher_state(distiller: Distiller) -> dict[str, Tensor]:
    teachers = stateful_teachers(distiller.teacher).items()
    return {key: value for name, teacher in teachers for key, value in flat(f"{name}.", teacher.state_dict()).items()}


def _restore(loop: Loop, saved: Checkpoint, rank: int) -> None:
    """The inverse of :func:`_snapshot`."""
    tensors, state = saved.tensors, saved.state
    loop.distiller.student.load_state_dict(part("student.", tensors))
    loop.distiller.objective.load_state_dict(part("objective.", tensors))
    restore_optimizer(loop.optimizer, part("optimizer.", tensors), state["optimizer"])
    if loop.average is not None:
        loop.average.load_state_dict(part("average.", tensors))
    for name, teacher in stateful_teachers(loop.distiller.teacher).items():
        teacher.load_state_dict(part(f"teacher.{name}.", tensors))
    loop.scaler.load_state_dict(state["scaler"])
    loop.place = Place(**state["place"])
    loop.best_state = part("best.", tensors) or None
    loop.epoch_generators = state["loader"]
    loop.random_state = state["each"][rank]["random"]
    loop.meter.restore(state["each"][rank]["meter"])


def training_identity(
    distiller: Distiller, training: Training, seed: int, batches: Batches, current: Process, pace: Pace | None = None
) -> dict[str, Any]:
    """What must be the same for a checkpoint to be gone on from, as JSON.

    Args:
        distiller: student, teacher and objective; of the student its structure counts, of the teacher its weights.
        training: how to train.
        seed: of the training.
        batches: the training data; how many batches an epoch has counts, and what a loader that learns is.
        current: this process, which knows how many train together.
        pace: of the student's parts.
    """
    student = [
        [name, list(parameter.shape), parameter.requires_grad]
        for name, parameter in distiller.student.named_parameters()
    ]
    teacher, balance = distiller.teacher, distiller.objective.objective.balance
    return {
        "training": training.model_dump(mode="json", exclude=_FREE_TO_CHANGE),
        "seed": seed,
        "task": distiller.task.model_dump(mode="json"),
        "objective": [term.model_dump(mode="json") for term in distiller.objective.objective.terms],
        "balance": balance.model_dump(mode="json") if balance is not None else None,
        "student": digest(student),
        "pace": pace.identity() if pace is not None else None,
        "teacher": _teacher_identity(teacher),
        "batches per epoch": batches.length,
        "loader": batches.identity,
        "processes": current.world,
    }


def _teacher_identity(teacher: Teacher | None) -> str:
    if isinstance(teacher, RuntimeTeacher):
        return f"{_weights(teacher.module)} on {teacher.runtime}"  # another one rounds differently
    return _weights(teacher.module) if isinstance(teacher, ModuleTeacher) else type(teacher).__name__


def _weights(module: nn.Module) -> str:
    checksum = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        checksum.update(name.encode())
        if tensor.numel():
            checksum.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return checksum.hexdigest()[:16]


def _differences(before: Any, now: Any, path: str = "") -> list[str]:
    """Where two JSON values differ, in words."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = list(dict.fromkeys([*before, *now]))
        prefix = f"{path}." if path else ""
        return [change for key in keys for change in _differences(before.get(key), now.get(key), f"{prefix}{key}")]
    return [] if before == now else [f"{path} was {before!r}, is {now!r} now"]
