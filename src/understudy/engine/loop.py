"""The loop: steps, validations, checkpoints, in an order that can be taken up again anywhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from understudy.batch import Batch
from understudy.distiller import Distiller, Step
from understudy.engine.batches import Batches, check_progress
from understudy.engine.finite import FiniteWatch
from understudy.engine.history import Meter, Record
from understudy.engine.interruption import Interruption
from understudy.engine.optimizers import build_optimizer, keep_norms
from understudy.engine.pace import Pace, Pacer
from understudy.engine.plan import DTYPES, Precision
from understudy.engine.process import Process
from understudy.engine.progress import Progress
from understudy.engine.randomness import seed_all, set_random_state
from understudy.engine.training import Training
from understudy.taps import unwrapped

_SHOW_SECONDS = 0.25


@dataclass(frozen=True)
class Moment:
    """What a callback sees.

    Attributes:
        step: steps that were made.
        epoch: epochs that were made.
        progress: how far the training is, 0 to 1.
        distiller: student, adapters and teacher.
        student: the network that is validated and kept: the moving average of the student, if there is one.
        output: what the distiller gave for the last batch.
    """

    step: int
    epoch: float
    progress: float
    distiller: Distiller
    student: nn.Module
    output: Step


class Callback(Protocol):
    """Something that watches a training. It must not draw from the global random generators."""

    def stepped(self, moment: Moment) -> None:
        """The optimizer has made a step; nothing here should take long."""
        ...

    def recorded(self, moment: Moment, record: Record) -> bool | None:
        """A record was made, after each validation. True ends the training."""
        ...


@dataclass
class Place:
    """Where a training is; all of it goes into a checkpoint.

    Attributes:
        step: steps that were made.
        epoch: epochs that are complete.
        batch: batches of the current epoch that were used.
        samples: samples that were seen, over all processes.
        seconds: time it took, over all runs.
        stale: validations since the best one.
        best_epoch: epochs made at the best validation.
        best_metric: the headline metric then.
        history: all records.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    samples: int = 0
    seconds: float = 0.0
    stale: int = 0
    best_epoch: float | None = None
    best_metric: float | None = None
    history: list[Record] = field(default_factory=list)


class Observer(Protocol):
    """What the loop needs from outside: quality, and a place to write."""

    def quality(self, model: nn.Module) -> dict[str, float] | None:
        """Metrics on the validation data, the headline first; None when there is no such data."""
        ...

    def record(self, record: Record) -> None:
        """Write a record down."""
        ...

    def checkpoint(self, loop: Loop) -> None:
        """Write a checkpoint, if they are wanted."""
        ...


class Loop:
    """One training.

    Args:
        distiller: what is trained, on its device and in its memory format.
        model: the same, wrapped for several processes where there are several.
        batches: the data.
        training: how.
        precision: the student's, as the execution plan has it.
        seed: what all randomness comes from.
        current: this process.
        progress: who is told.
        observer: who measures and writes.
        interruption: who may ask it to end.
        callbacks: who else watches.
        pace: of the student's parts.
    """

    def __init__(
        self,
        distiller: Distiller,
        model: nn.Module,
        batches: Batches,
        *,
        training: Training,
        precision: Precision,
        seed: int,
        current: Process,
        progress: Progress,
        observer: Observer,
        interruption: Interruption,
        callbacks: Sequence[Callback],
        pace: Pace | None,
    ) -> None:
        self.distiller, self.training, self.place = distiller, training, Place()
        self.optimizer = build_optimizer(training.optimizer, [distiller], factors=_factors(pace, distiller.student))
        all_gradients = current.world > 1 or distiller.reads_layers
        self._pacer = Pacer(pace, distiller.student, all_gradients=all_gradients) if pace is not None else None
        self.scaler = torch.amp.GradScaler(current.device.type, enabled=precision == "fp16")
        self.average = (
            AveragedModel(distiller.student, multi_avg_fn=get_ema_multi_avg_fn(training.ema)) if training.ema else None
        )
        self.best_state: dict[str, Tensor] | None = None
        self.random_state: dict[str, Any] | None = None
        self.epoch_generators = batches.generator_states()
        self.total = training.total_steps(batches.length)
        self.steps_per_epoch = training.steps_per_epoch(batches.length)
        self._model, self._batches, self._seed, self._process = model, batches, seed, current
        self._progress, self._observer, self._callbacks = progress, observer, callbacks
        self._interruption = interruption
        self._dtype = DTYPES[precision]
        self._parameters = [one for group in self.optimizer.param_groups for one in group["params"]]
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._paced = training.schedule is not None or training.warmup > 0.0
        self._watch = FiniteWatch(distiller, deferred=current.device.type != "cpu")
        self.meter = Meter(current)
        self._stopped = False
        self._shown = self._resumed_at = self._checkpointed = time.perf_counter()

    @property
    def student(self) -> nn.Module:
        """The network whose weights are validated and kept: the moving average, if there is one."""
        return self.average.module if self.average is not None else self.distiller.student

    @property
    def seconds(self) -> float:
        """Time that the training took, over all runs."""
        return self.place.seconds + time.perf_counter() - self._resumed_at

    @property
    def epochs_made(self) -> float:
        """Epochs that were made, with the part of the current one."""
        return round(self.place.step / self.steps_per_epoch, 6)

    def run(self) -> None:
        """Train to the end.

        Raises:
            RunError: for a loss or a gradient that is not finite, or a checkpoint that cannot be written.
        """
        self._resumed_at = self._checkpointed = time.perf_counter()
        self._distiller_in_train_mode()
        while self.place.step < self.total and not self._stopped:
            self._epoch()

    def _epoch(self) -> None:
        """Go on with the current epoch, from its first batch or, after a resumption, from any."""
        place = self.place
        epoch, begun = place.epoch, place.batch
        seed_all(self._seed, epoch, self._process.rank)
        self._batches.set_generator_states(self.epoch_generators)
        stream = self._batches.open(epoch, begun)
        if self.random_state is not None and begun > 0:
            set_random_state(self.random_state)
        self.random_state = None
        made = 0
        for group in self._batches.groups(stream, self.training.accumulate):
            if place.epoch > epoch:
                break  # the loader yields more than its length says
            output = self._step(group)
            made += 1
            place.step += 1
            place.batch += len(group)
            if place.batch >= self._batches.length:
                self._next_epoch()
            self._after_step(output)
            if place.step >= self.total or self._stopped:
                return
        check_progress(made + begun, epoch)
        if place.epoch == epoch:  # the loader yields less than its length says
            self._next_epoch()

    def _next_epoch(self) -> None:
        self.place.epoch += 1
        self.place.batch = 0
        self.epoch_generators = self._batches.generator_states()

    def _step(self, group: list[Batch]) -> Step:
        """One step of the optimizer."""
        training, step = self.training, self.place.step
        if self._pacer is not None:
            self._pacer.at(step / self.total)
        if self._paced:
            factor = training.learning_rate_factor(step, self.total)
            for settings, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
                settings["lr"] = rate * factor
        output = self._backward(group, step)
        pulls = self._pacer is not None and self._pacer.changes_gradients
        if pulls or training.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
        if pulls and self._pacer is not None:
            self._pacer.change_gradients()
        if training.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, training.clip_norm)
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if training.max_norm is not None:
            keep_norms(self.distiller.student, training.max_norm)
        if self.average is not None:
            self.average.update_parameters(self.distiller.student)
        return output

    def _backward(self, group: list[Batch], step: int) -> Step:
        """Gradients of all batches of one step; returns what the last one gave."""
        output: Step | None = None
        for number, batch in enumerate(group, start=1):
            with self._autocast(), self._unsynchronized(last=number == len(group)):
                output = self._model(batch, progress=step / self.total)
            assert output is not None
            self._watch.look(step + 1, output, batch)
            loss = output.loss / len(group) if len(group) > 1 else output.loss
            with self._unsynchronized(last=number == len(group)):
                (self.scaler.scale(loss) if self.scaler.is_enabled() else loss).backward()
            self.meter.add(output, len(batch))
        assert output is not None  # a group has at least one batch
        return output

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._process.device.type, dtype=self._dtype)

    def _unsynchronized(self, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients need to travel only with the last batch of a step."""
        if last or not isinstance(self._model, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return self._model.no_sync()

    def _after_step(self, output: Step) -> None:
        place, training = self.place, self.training
        for callback in self._callbacks:
            callback.stepped(self._moment(output))
        over = place.step >= self.total
        now = time.perf_counter()
        if over or now - self._shown >= _SHOW_SECONDS:
            self._show(now)
        interval = max(training.validate_every * self.steps_per_epoch, 1.0)
        if over or int(place.step / interval + 1e-9) > int((place.step - 1) / interval + 1e-9):
            self._validate(output)
        if not over and not self._stopped and self._checkpoint_due(now):
            self._watch.check_weights(place.step)
            self._observer.checkpoint(self)
            self._checkpointed = time.perf_counter()
            self._interruption.take_effect()
        if self._callbacks:
            self._distiller_in_train_mode()

    def _show(self, now: float) -> None:
        self._shown = now
        loss, terms = self.meter.recent()
        seen = self.place.samples + self.meter.samples
        self._progress.update(self.place.step, self.epochs_made, seen, terms, loss)

    def _checkpoint_due(self, now: float) -> bool:
        """When somebody waits for it, or by steps if so asked; otherwise by the clock of the main process."""
        if self._interruption.asked is not None:
            return True
        if self.training.checkpoint_every is not None:
            return self.place.step % self.training.checkpoint_every == 0
        elapsed = now - self._checkpointed
        if self.place.batch == 0:
            return bool(self._process.told(elapsed >= 20.0))
        return self._process.world == 1 and elapsed >= 600.0

    def _validate(self, output: Step) -> None:
        """Measure the student, write a record, keep the best, decide whether to stop."""
        place = self.place
        self._watch.check_weights(place.step)
        loss, terms, samples, rate = self.meter.flush()
        place.samples += samples
        metrics = self._observer.quality(self.student)
        self._distiller_in_train_mode()
        record: Record = {
            "step": place.step,
            "epoch": self.epochs_made,
            "progress": place.step / self.total,
            "loss": loss,
            "terms": terms,
            "weights": self.distiller.objective.weights(place.step / self.total),
            "lr": self.optimizer.param_groups[0]["lr"],
            "samples_per_s": rate,
            "seconds": round(self.seconds, 3),
            "val": metrics,
        }
        place.history.append(record)
        self._observer.record(record)
        if metrics is not None:
            self._progress.validated(metrics)
            self._compare(next(iter(metrics.values())))
        for callback in self._callbacks:
            self._stopped = bool(callback.recorded(self._moment(output), record)) or self._stopped
        self.meter.start()

    def _compare(self, metric: float) -> None:
        place = self.place
        best, lower = place.best_metric, self.distiller.task.lower_is_better
        if best is None or (metric < best if lower else metric > best):
            place.best_metric, place.best_epoch, place.stale = metric, self.epochs_made, 0
            self.best_state = copied_state(self.student)
            return
        place.stale += 1
        self._stopped = self.training.patience is not None and place.stale >= self.training.patience

    def _moment(self, output: Step) -> Moment:
        place = self.place
        return Moment(
            step=place.step,
            epoch=self.epochs_made,
            progress=place.step / self.total,
            distiller=self.distiller,
            student=self.student,
            output=output,
        )

    def _distiller_in_train_mode(self) -> None:
        self._model.train()
        if self._pacer is not None:
            self._pacer.set_modes()


def _factors(pace: Pace | None, student: nn.Module) -> dict[Tensor, float]:
    own = dict(unwrapped(student).named_parameters())
    return {own[name]: factor for name, factor in pace.factors.items()} if pace is not None else {}


def copied_state(module: nn.Module) -> dict[str, Tensor]:
    """A state dict of its own, on the CPU, contiguous."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }
