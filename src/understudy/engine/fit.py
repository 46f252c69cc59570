"""Our loop around a distiller; nothing else in the library needs it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from understudy.batch import Batch
from understudy.distiller import Distiller
from understudy.engine.batches import Batches
from understudy.engine.checkpoints import Checkpoint
from understudy.engine.history import Record
from understudy.engine.interruption import Interruption
from understudy.engine.journal import Journal, training_identity
from understudy.engine.loop import Callback, Loop, copied_state
from understudy.engine.pace import Pace, kept_frozen
from understudy.engine.plan import Execution, Plan, applied, fixed_plan, probe
from understudy.engine.process import Process, data_parallel, process
from understudy.engine.progress import Progress, SilentProgress, progress_for
from understudy.engine.randomness import kept_randomness
from understudy.engine.training import Training
from understudy.errors import InputError, RunError
from understudy.teachers import AverageTeacher, ModuleTeacher, Teacher

_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo", "NCCL")


@dataclass(frozen=True)
class Fitted:
    """What a training gave.

    Attributes:
        history: the records, as they are in ``metrics.jsonl``.
        best_epoch: epochs made at the best validation; None without validation data.
        best_metric: the task's headline metric then.
        last_metric: the same after the last step.
        steps: steps that were made.
        seconds: time it took, over all runs when it was taken up again.
        plan: how it was executed.
        best_state: the student's state dict at the best validation, on the CPU; the last one without validation.
        last_state: the student's state dict after the last step.
        resumed_from: the step of the checkpoint it went on from, None for a training made in one go.
    """

    history: list[Record]
    best_epoch: float | None
    best_metric: float | None
    last_metric: float | None
    steps: int
    seconds: float
    plan: Plan
    best_state: dict[str, Tensor]
    last_state: dict[str, Tensor]
    resumed_from: int | None


def fit(
    distiller: Distiller,
    loader: Any,
    training: Training,
    *,
    val: Any = None,
    seed: int = 0,
    directory: Path | None = None,
    progress: Progress | None = None,
    trackers: tuple[str, ...] = (),
    callbacks: Sequence[Callback] = (),
    pace: Pace | None = None,
    finished: Callable[[Fitted], object] = lambda _: None,
) -> Fitted:
    """Train a distiller's student, on the device and the processes that Accelerate finds.

    The student ends with the selected weights (``training.select``). The same call with the same ``directory``
    goes on from the last checkpoint if it was interrupted; on the CPU the weights are then the same, bit for bit, as
    without the interruption. In one process, Ctrl-C and SIGTERM wait for a checkpoint; a second one does not.

    Args:
        distiller: student, teacher and objective; student and teacher are moved to the device.
        loader: the training data: understudy's ``Loader``, a ``DataLoader``, or a list of batches. With several
            processes a ``DataLoader``'s batch size is that of all of them together.
        training: how to train.
        val: validation data, anything that yields batches; None to select nothing.
        seed: what all randomness of the training comes from. The global generators are seeded from it at each
            epoch, and put back at the end.
        directory: where ``metrics.jsonl`` and, until it is over, checkpoints go; None writes nothing.
        progress: who is told how far it is; a live line on stderr (plain lines when it is no terminal) by default.
        trackers: names of trackers, such as ``("tensorboard",)``.
        callbacks: who else watches.
        pace: which parts of the student train more slowly, later or not at all, or are held near where they began.
        finished: called when the student has its final weights and before the checkpoints are removed: the place to
            save it, so that at no moment a finished training exists in memory only.

    Raises:
        InputError: for settings, loaders, trackers or checkpoints that do not fit; nothing was trained.
        RunError: for a loss or gradient that is not finite, a full disk, or a process that was lost.
    """
    current, teacher = process(), _live(distiller.teacher)
    shown = (progress or progress_for(sys.stderr)) if current.is_main else SilentProgress()
    distiller.to(current.device)
    if teacher is not None:
        teacher.to(current.device)
    batches = Batches(loader, task=distiller.task, current=current)
    identity = training_identity(distiller, training, seed, batches, current, pace) if directory or trackers else {}
    journal = Journal(distiller, val, batches, directory=directory, current=current, progress=shown, identity=identity)
    interruption = Interruption(kept=current.world == 1)
    with kept_randomness(), kept_frozen(pace, distiller.student), _explained(current), interruption.waiting():
        saved = journal.load()
        example = batches.first() if current.world > 1 else None  # all processes must draw it together
        plan = _plan(distiller, teacher, lambda: example or batches.first(), batches.length, training, current, saved)
        journal.plan = plan
        with applied(plan, distiller.student, teacher):
            loop = Loop(
                distiller,
                data_parallel(distiller, example, current),
                batches,
                training=training,
                precision=plan.student.precision,
                seed=seed,
                current=current,
                progress=shown,
                observer=journal,
                interruption=interruption,
                callbacks=callbacks,
                pace=pace,
            )
            if plan.probe_seconds:
                shown.message(f"execution: {plan.describe()}")
            journal.begin(loop, saved, trackers)
            try:
                loop.run()
            finally:
                journal.end()
        fitted = _fitted(loop, plan, saved, training, current)
        finished(fitted)
        journal.clear()
        return fitted


def _live(teacher: Teacher | None) -> ModuleTeacher | None:
    """The network of a teacher whose execution can be chosen."""
    if isinstance(teacher, AverageTeacher):
        return teacher.answering
    return teacher if isinstance(teacher, ModuleTeacher) else None


def _check_chunks(distiller: Distiller, training: Training) -> None:
    """Refuse a training that means other chunks than the distiller, or that compiles what has to stop half-way."""
    if training.head_chunk not in (None, distiller.head_chunk):
        raise InputError(
            f"the training says head_chunk={training.head_chunk!r} and the distiller {distiller.head_chunk!r}; "
            f"build it with Distiller(…, head_chunk={training.head_chunk!r})"
        )
    compiles = isinstance(training.execution, Execution) and training.execution.compile
    if distiller.head_chunk is not None and compiles:
        raise InputError("head_chunk and execution.compile do not go together; leave one of them out")


def _plan(
    distiller: Distiller,
    teacher: ModuleTeacher | None,
    example: Callable[[], Batch],
    length: int,
    training: Training,
    current: Process,
    saved: Checkpoint | None,
) -> Plan:
    """The plan of the checkpoint; otherwise what the main process finds to be the fastest."""
    _check_chunks(distiller, training)
    if saved is not None:
        return Plan.model_validate(saved.state["plan"])
    if training.execution == "plain":
        return fixed_plan(training.precision, teacher, None)
    execution = training.execution if isinstance(training.execution, Execution) else Execution()
    plan = fixed_plan(training.precision, teacher, execution)
    if current.is_main:
        plan = probe(
            distiller.student,
            teacher,
            task=distiller.task,
            batch=example,
            precision=training.precision,
            execution=execution,
            steps=training.total_steps(length),
        )
    return Plan.model_validate(current.told(plan.model_dump(mode="json")))


def _fitted(loop: Loop, plan: Plan, saved: Checkpoint | None, training: Training, current: Process) -> Fitted:
    """Put the selected weights into the student, the same ones in every process."""
    student, place = loop.distiller.student, loop.place
    last_state = copied_state(loop.student)
    best_state = loop.best_state if loop.best_state is not None else last_state
    student.load_state_dict(best_state if training.select == "best" else last_state)
    current.broadcast(list(student.state_dict().values()))
    val = place.history[-1]["val"] if place.history else None
    return Fitted(
        history=place.history,
        best_epoch=place.best_epoch,
        best_metric=place.best_metric,
        last_metric=next(iter(val.values())) if val else None,
        steps=place.step,
        seconds=loop.seconds,
        plan=plan,
        best_state=best_state,
        last_state=last_state,
        resumed_from=saved.step if saved is not None else None,
    )


@contextmanager
def _explained(current: Process) -> Iterator[None]:
    """Say what it means when another process can no longer be reached."""
    try:
        yield
    except RuntimeError as error:
        if current.world > 1 and any(sign in str(error) for sign in _LOST):
            raise RunError(
                f"another process of this run ended, so process {current.rank} cannot go on: {error}"
            ) from error
        raise
