"""How good a model's answers are, and how much they are its teacher's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn

from understudy.batch import IGNORE_INDEX, Batch, known, unknown
from understudy.errors import InputError
from understudy.functional.association import spearman_correlation
from understudy.functional.divergences import kl_divergence
from understudy.knowledge import Answers, Knowledge
from understudy.measure.answered import Answered, ClassesAnswered, NumbersAnswered
from understudy.sources.forward import device_of, evaluating

if TYPE_CHECKING:  # a task brings torchmetrics, which the process that measures memory can do without
    from torchmetrics import MetricCollection

    from understudy.tasks.task import Task
    from understudy.teachers import Teacher


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model answered for a whole split, on the CPU.

    Attributes:
        logits: (positions, classes) float32; a position is a sample, or a place in one that counts.
        targets: (positions,) int64, ``IGNORE_INDEX`` where there is no label; or float32 (positions, numbers), NaN
            where nobody knows them.
        ids: (positions,) int64, the sample of each position; None when the loader gave no ids.
    """

    logits: Tensor
    targets: Tensor
    ids: Tensor | None

    def __len__(self) -> int:
        return len(self.logits)


def predict(
    model: nn.Module, loader: Iterable[Any], task: Task, device: torch.device | str | None = None
) -> Predictions:
    """Run a model over a split in eval mode, without gradients.

    Args:
        model: afterwards every submodule is in the mode it had before.
        loader: batches, raw or ready.
        task: how the model is called.
        device: where the batches go; None: where the model is.

    Raises:
        InputError: for a loader without a single batch.
    """
    place = device_of(model) if device is None else torch.device(device)
    # Not inference_mode: a model that keeps a tensor (a table of positions, say) could not be trained afterwards.
    with evaluating(model), torch.no_grad():
        parts = [_answered(task.observe(model, batch), batch, task) for batch in _moved(loader, task, place)]
    if not parts:
        raise InputError("expected at least one batch to predict on, the loader is empty")
    known = [part.ids for part in parts if part.ids is not None]
    return Predictions(
        logits=torch.cat([part.logits for part in parts]),
        targets=torch.cat([part.targets for part in parts]),
        ids=torch.cat(known) if len(known) == len(parts) else None,
    )


def quality(predictions: Predictions, task: Task) -> dict[str, float]:
    """The task's metrics over what is labelled, with the number of ``samples``, and of classes that of ``errors``.

    Args:
        predictions: of one model.
        task: names the metrics.

    Raises:
        InputError: when nothing is labelled, or a label is not one of the classes.
    """
    tally = Tally(task)
    tally.add(predictions)
    return tally.quality()


def judge(
    models: Mapping[str, nn.Module],
    loader: Iterable[Any],
    task: Task,
    *,
    teachers: Mapping[str, str] | None = None,
    reference: Teacher | None = None,
    device: torch.device | str | None = None,
) -> dict[str, Tally]:
    """Run models over a split, a batch of all of them after the other, so that no more is held than a batch's answers.

    Args:
        models: by name; afterwards every submodule is in the mode it had before.
        loader: batches, raw or ready.
        task: how the models are called, and what is measured.
        teachers: of some models the one whose answers theirs are compared with, by name.
        reference: the teacher of all others.
        device: where the batches go; None: where the first model is.

    Returns:
        What there is to say of each.

    Raises:
        InputError: for a loader without a single batch, or as :meth:`Tally.add` does.
    """
    tallies = {name: Tally(task) for name in models}
    place = device_of(next(iter(models.values()))) if device is None else torch.device(device)
    with ExitStack() as stack, torch.no_grad():
        for model in models.values():
            stack.enter_context(evaluating(model))
        for batch in _moved(loader, task, place):
            answers = {name: _answered(task.observe(model, batch), batch, task) for name, model in models.items()}
            told = None if reference is None else _answered(reference.observe(batch), batch, task)
            for name, tally in tallies.items():
                teacher = (teachers or {}).get(name)
                tally.add(answers[name], told if teacher is None else answers[teacher])
    if not any(tally.positions for tally in tallies.values()):
        raise InputError("expected at least one batch to predict on, the loader is empty")
    return tallies


@final
class Tally:
    """What there is to say of a model's answers, counted up batch by batch; of each position little is kept.

    Args:
        task: names the metrics. Where it has no true answers, those of the teacher stand in for them.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._metrics: MetricCollection | None = None
        self._seen: _Classes | _Numbers = _Classes() if task.answers == "classes" else _Numbers(task.answers)
        self.labelled = self.positions = 0

    def add(self, answers: Predictions, teacher: Predictions | None = None) -> None:
        """Count a batch.

        Args:
            answers: the model's.
            teacher: those of its teacher to the same samples.

        Raises:
            InputError: when a label is not one of the classes, or the two answered other samples or classes.
        """
        teacher = None if teacher is None else _aligned(teacher, answers)
        if teacher is not None and not self._task.labelled:
            answers = replace(answers, targets=teacher.logits)
        logits, targets = _labelled(answers)
        if self._metrics is None:
            self._metrics = self._task.metrics(logits.shape[-1])
            for metric in self._metrics.values():
                metric.distributed_available_fn = _alone
        self._task.count(self._metrics, answers.logits, answers.targets)
        self.labelled += len(targets)
        self.positions += len(answers)
        self._seen.add(answers, teacher)

    def quality(self) -> dict[str, float]:
        """The task's metrics over what is labelled, with the number of ``samples``, and of classes that of ``errors``.

        Raises:
            InputError: when nothing is labelled.
        """
        if self._metrics is None or not self.labelled:
            what = "a label" if self._task.labelled else "an answer of a teacher to be compared with"
            raise InputError(
                f"none of the {self.positions} samples has {what}; expected a labelled split to measure on"
            )
        values = {name: float(value) for name, value in self._metrics.compute().items()}
        return {**values, **self._seen.counts(), "samples": float(self.labelled)}

    def agreement(self) -> dict[str, float]:
        """As :func:`agreement`, over all batches; nothing without a teacher."""
        return self._seen.agreement()

    def answers(self) -> Answered:
        """The likeliest class of each position, or its numbers."""
        return self._seen.answers()


class _Classes:
    """Likeliest classes, and how far they are a teacher's."""

    def __init__(self) -> None:
        self._errors = 0
        self._compared: dict[str, float] = {}
        self._parts: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = []

    def add(self, answers: Predictions, teacher: Predictions | None) -> None:
        sure, best = answers.logits.softmax(-1).max(-1)
        wrong = answers.logits.argmax(-1) != answers.targets
        self._errors += int((wrong & known(answers.targets)).sum())
        self._parts.append((best, sure, answers.targets, answers.ids))
        if teacher is not None:
            for name, value in agreement(answers, teacher).items():
                self._compared[name] = self._compared.get(name, 0.0) + value * len(answers)

    def counts(self) -> dict[str, float]:
        return {"errors": float(self._errors)}

    def agreement(self) -> dict[str, float]:
        positions = sum(len(best) for best, *_ in self._parts)
        return {name: total / positions for name, total in self._compared.items()}

    def answers(self) -> ClassesAnswered:
        best, sure, targets, ids = zip(*self._parts, strict=True)
        return ClassesAnswered(torch.cat(best), torch.cat(sure), torch.cat(targets), _all_ids(ids))


class _Numbers:
    """Numbers or vectors, and how far numbers are a teacher's."""

    def __init__(self, answers: Answers) -> None:
        self._named = answers == "numbers"
        self._parts: list[Predictions] = []
        self._teacher: list[Tensor] = []

    def add(self, answers: Predictions, teacher: Predictions | None) -> None:
        self._parts.append(answers)
        if teacher is not None and self._named:
            self._teacher.append(teacher.logits)

    def counts(self) -> dict[str, float]:
        return {}

    def agreement(self) -> dict[str, float]:
        if not self._teacher:
            return {}
        return number_agreement(torch.cat([part.logits for part in self._parts]), torch.cat(self._teacher))

    def answers(self) -> NumbersAnswered:
        return NumbersAnswered(
            numbers=torch.cat([part.logits for part in self._parts]),
            targets=torch.cat([part.targets for part in self._parts]),
            ids=_all_ids([part.ids for part in self._parts]),
            named=self._named,
        )


def _all_ids(parts: Sequence[Tensor | None]) -> Tensor | None:
    there = [part for part in parts if part is not None]
    return torch.cat(there) if len(there) == len(parts) else None


def _alone() -> bool:
    """For torchmetrics: all predictions are here, and no other process is waiting to add its own."""
    return False


def agreement(student: Predictions, teacher: Predictions) -> dict[str, float]:
    """How much a student answers what its teacher answers, labelled or not.

    Args:
        student: its predictions.
        teacher: the teacher's for the same samples, in any order if they have ids.

    Returns:
        ``agreement``, the fraction of positions at which both have the same best class; ``kl_from_teacher``, the mean
        Kullback-Leibler divergence of the student from the teacher in nats, KL(teacher ‖ student); and
        ``kl_to_teacher``, KL(student ‖ teacher), which is large where the student believes what the teacher does not.

    Raises:
        InputError: when the samples or the classes are not the same.
    """
    teacher = _aligned(teacher, student)
    if student.logits.shape != teacher.logits.shape:
        raise InputError(
            f"the student answers with {student.logits.shape[-1]} classes, the teacher with "
            f"{teacher.logits.shape[-1]}; expected the same classes in the same order"
        )
    same = student.logits.argmax(-1) == teacher.logits.argmax(-1)
    both = (student.logits, teacher.logits)
    there, back = (kl_divergence(*pair).double().mean() for pair in (both, both[::-1]))
    return {"agreement": float(same.float().mean()), "kl_from_teacher": float(there), "kl_to_teacher": float(back)}


def number_agreement(student: Tensor, teacher: Tensor) -> dict[str, float]:
    """How much a student answers the numbers that its teacher answers, labelled or not.

    Args:
        student: float (positions, numbers).
        teacher: the same shape.

    Returns:
        ``rmse_to_teacher``, the root of the mean squared difference, and ``spearman_to_teacher``, the correlation of
        the ranks, of several numbers its mean.

    Raises:
        InputError: for other numbers of numbers.
    """
    if student.shape != teacher.shape:
        raise InputError(
            f"the student answers {student.shape[-1]} numbers, the teacher {teacher.shape[-1]}; expected the same ones"
        )
    return {
        "rmse_to_teacher": float((student - teacher).double().square().mean().sqrt()),
        "spearman_to_teacher": float(spearman_correlation(student.T, teacher.T).mean()),
    }


def _answered(knowledge: Knowledge, batch: Batch, task: Task) -> Predictions:
    logits = knowledge.dense
    positions = logits.shape[:-1]
    targets = batch.targets
    if targets is None or not task.labelled:
        classes = task.answers == "classes"
        targets = torch.full(positions, IGNORE_INDEX, device=logits.device) if classes else unknown(logits[..., :1])
    counts = _counting(knowledge, batch)
    ids = batch.ids
    if ids is not None:
        ids = ids.view(-1, *[1] * (len(positions) - 1)).expand(positions)
    return Predictions(
        logits=_chosen(logits, counts).float().cpu(),
        targets=_chosen(targets, counts).cpu(),
        ids=None if ids is None else _chosen(ids, counts).cpu(),
    )


def _moved(loader: Iterable[Any], task: Task, place: torch.device) -> Iterator[Batch]:
    return (task.batch(raw).to(place) for raw in loader)


def _counting(knowledge: Knowledge, batch: Batch) -> Tensor | None:
    return batch.mask if batch.mask is not None else knowledge.mask


def _chosen(values: Tensor, counts: Tensor | None) -> Tensor:
    if counts is not None:
        return values[counts]
    return values.flatten(0, values.ndim - 2) if values.is_floating_point() else values.flatten()


def _labelled(predictions: Predictions) -> tuple[Tensor, Tensor]:
    labelled = known(predictions.targets)
    logits, targets = predictions.logits[labelled], predictions.targets[labelled]
    if targets.is_floating_point():
        return logits, targets
    classes = logits.shape[-1]
    strange = targets[(targets < 0) | (targets >= classes)]
    if len(strange):
        raise InputError(
            f"labels must be 0 to {classes - 1} (the model has {classes} outputs), found {int(strange[0])}; "
            "model and data must have the same classes"
        )
    return logits, targets


def _aligned(teacher: Predictions, student: Predictions) -> Predictions:
    if len(teacher) != len(student):
        raise InputError(
            f"the student answered {len(student)} samples, the teacher {len(teacher)}; expected the same samples"
        )
    if teacher.ids is None or student.ids is None:
        if torch.equal(teacher.targets.nan_to_num(), student.targets.nan_to_num()):
            return teacher
        raise InputError(
            "the two predictions come without sample ids and with targets in different orders, so they cannot be "
            "matched; use a loader that does not shuffle, or one that gives ids"
        )
    if torch.equal(teacher.ids, student.ids):
        return teacher
    order = teacher.ids.argsort(stable=True)[student.ids.argsort(stable=True).argsort(stable=True)]
    if not torch.equal(teacher.ids[order], student.ids):
        strange = sorted(set(student.ids.tolist()) ^ set(teacher.ids.tolist()))
        raise InputError(
            f"student and teacher answered different samples (ids {strange[:4]} are only in one of the two); expected "
            "the same ones"
        )
    return replace(teacher, logits=teacher.logits[order], targets=teacher.targets[order], ids=teacher.ids[order])
