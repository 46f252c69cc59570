"""What the checks look at: a few batches, what both networks say about them, and how often they are right."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from understudy.batch import Batch, rows
from understudy.distiller import Distiller
from understudy.errors import InputError
from understudy.knowledge import Knowledge
from understudy.tasks import Task

MOST_ROWS = 128
"""Rows of a batch that the networks are shown; more would cost time and say little."""
FEW_ROWS = 32
"""Rows that are enough where it is about structure: modes, gradients, proportions."""
MOST_SECONDS = 3.0
"""How long to read, and how long to run the networks, before the batches at hand must do."""
MOST_VALUES = 2**27
"""How many logits to keep of each network."""
_MOST_LEARNT = 2**24
"""How many logits to differentiate; some ten tensors of that size are held then."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One batch and what both networks, in eval mode, say about it.

    Attributes:
        number: position of the batch in the loader, from 0.
        batch: at most ``MOST_ROWS`` rows of it, on the student's device.
        student: its logits; no features.
        teacher: the same for the teacher; None without one.
        seconds: how long both took to answer.
        partial: whether the teacher told only its likeliest classes, so that its logits of the others are a guess.
    """

    number: int
    batch: Batch
    student: Knowledge
    teacher: Knowledge | None
    seconds: float
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Answers:
    """A network's answers beside the labels.

    Attributes:
        predicted: int64 (n,), the classes answered.
        labels: int64 (n,), the true ones.
        classes: how many classes there are.
    """

    predicted: Tensor
    labels: Tensor
    classes: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def accuracy(self) -> float:
        """Fraction answered rightly; 0 for no answers."""
        return float((self.predicted == self.labels).double().mean()) if len(self) else 0.0

    @property
    def chance(self) -> float:
        """What guessing gives: one divided by the number of classes."""
        return 1.0 / max(self.classes, 1)

    @property
    def at_chance(self) -> bool:
        """Whether the accuracy is that of guessing: within two standard errors, or no more than a half above.

        An untrained network does see its inputs, so that it can be right a little more often than chance.
        """
        lucky = self.chance + 2.0 * standard_error(self.chance, len(self))
        return self.accuracy < max(lucky, min(1.5 * self.chance, self.chance + 0.05 * (1.0 - self.chance)))

    @property
    def skill(self) -> float:
        """Accuracy on a scale where guessing is 0 and always right is 1."""
        return (self.accuracy - self.chance) / max(1.0 - self.chance, 1e-12)

    @property
    def judgeable(self) -> bool:
        """Whether there are labels enough, and of more than one class, to say anything."""
        return len(self) >= 20 and len(self.labels.unique()) > 1

    def confusion(self) -> Tensor:
        """Counts, (classes, classes): row = label, column = answer."""
        cells = torch.bincount(self.labels * self.classes + self.predicted, minlength=self.classes**2)
        return cells.reshape(self.classes, self.classes)


def standard_error(fraction: float, count: int) -> float:
    """Standard error of a fraction seen on ``count`` samples; infinite for none."""
    return (fraction * (1.0 - fraction) / count) ** 0.5 if count else float("inf")


def error_of(fraction: float, count: float) -> float:
    """Standard error of a measured fraction that is never 0 where few samples were seen, not even for 0 % or 100 %.

    Two right and two wrong answers are added (Agresti, Coull: Approximate is better than "exact", 1998).

    Args:
        fraction: what was seen.
        count: on how many samples, or how many the metric is worth.
    """
    return standard_error((fraction * count + 2.0) / (count + 4.0), round(count + 4.0))


def worth(labels: Tensor, metric: str) -> float:
    """On how many samples a plain fraction would be as certain as a metric on these.

    A mean over classes is as uncertain as its rarest ones: C² / Σ 1/n of C classes with n samples each.

    Args:
        labels: int64 (samples,).
        metric: ``accuracy``, or one that is averaged over the classes.
    """
    if metric == "accuracy" or not len(labels):
        return float(len(labels))
    counts = labels.unique(return_counts=True)[1].double()
    return float(len(counts) ** 2 / (1.0 / counts).sum())


def read(distiller: Distiller, loader: Iterable[Any], count: int) -> list[Batch]:
    """The first batches of a loader, on the student's device; at least one, then as many as time allows.

    Raises:
        InputError: for a loader that can be read only once, or one that gives nothing.
    """
    if isinstance(loader, Iterator):
        raise InputError(
            f"the loader is a {type(loader).__name__} that can be read only once, so looking would use its batches "
            "up; expected something that starts anew at each `for`, such as a DataLoader or a list"
        )
    device = device_of(distiller)
    batches = [distiller.task.batch(raw).to(device) for raw in _in_time(islice(loader, count))]
    batches = [batch for batch in batches if len(batch)]  # one of several processes may get an empty part
    if not batches:
        raise InputError("the loader gave no batch; expected at least one. Is the split empty, or drop_last on?")
    return batches


def observe(distiller: Distiller, batches: Iterable[Batch]) -> list[Observation]:
    """Show batches to both networks in eval mode, without gradients; modes stay changed (see ``untouched``).

    The first batch always, the others as time and memory allow.
    """
    distiller.student.eval()
    observations, values = [], 0
    with torch.no_grad():
        for number, whole in enumerate(_in_time(batches)):
            started, batch = time.perf_counter(), head(whole, affordable(distiller))
            student = _logits_only(distiller.task.observe(distiller.student, batch))
            told = _asked(distiller, batch)
            teacher, seconds = told and _logits_only(told), time.perf_counter() - started
            partial = told is not None and told.top is not None
            observations.append(Observation(number, batch, student, teacher, seconds, partial))
            values += student.logits.numel()
            if values > MOST_VALUES:
                break
    return observations


def affordable(distiller: Distiller) -> int:
    """How many rows of a batch to show to the networks: fewer where each has very many logits."""
    return max(2, min(MOST_ROWS, MOST_VALUES // distiller.logits_per_sample))


def few(distiller: Distiller) -> int:
    """How many are enough to look at structure, and few enough to be differentiated."""
    return max(2, min(FEW_ROWS, _MOST_LEARNT // distiller.logits_per_sample))


def head(batch: Batch, most: int = MOST_ROWS) -> Batch:
    """At most ``most`` rows of a batch, labelled ones first where ids keep their names."""
    if len(batch) <= most:
        return batch
    if batch.targets is None or batch.ids is None:
        return rows(batch, slice(most))
    unlabelled = (~batch.supervised).reshape(len(batch), -1).all(-1)
    return rows(batch, torch.argsort(unlabelled.int(), stable=True)[:most])


def ask(distiller: Distiller, batch: Batch) -> Knowledge | None:
    """The teacher's logits for a batch, called exactly as in training; None without a teacher."""
    told = _asked(distiller, batch)
    return told and _logits_only(told)


def _asked(distiller: Distiller, batch: Batch) -> Knowledge | None:
    return None if distiller.teacher is None else distiller.teacher.observe(batch, distiller.teacher_taps)


def answers(task: Task, pairs: Iterable[tuple[Knowledge, Batch]]) -> Answers:
    """Answers and labels over the labelled positions of some batches; labels out of range are left out."""
    predicted, labels, classes = [], [], 0
    for knowledge, batch in pairs:
        classes = knowledge.logits.shape[-1]
        if batch.targets is None:
            continue
        logits, targets = task.flat(knowledge, batch)
        inside = (targets >= 0) & (targets < classes)
        predicted.append(logits[inside].argmax(-1).cpu())
        labels.append(targets[inside].cpu())
    empty = torch.zeros(0, dtype=torch.int64)
    return Answers(torch.cat([empty, *predicted]), torch.cat([empty, *labels]), classes)


def teacher_answers(task: Task, observations: Iterable[Observation]) -> Answers:
    """The teacher's answers; empty without a teacher."""
    return answers(task, [(seen.teacher, seen.batch) for seen in observations if seen.teacher is not None])


def student_answers(task: Task, observations: Iterable[Observation]) -> Answers:
    """The student's answers."""
    return answers(task, [(seen.student, seen.batch) for seen in observations])


def named_rows(batch: Batch, number: int, wrong: Tensor, *, most: int = 5) -> str:
    """Name the rows where ``wrong`` (bool, (batch,)) holds: by their ids if they have any, else by position."""
    places = wrong.nonzero().flatten()
    known = batch.ids is not None
    shown = batch.ids[places] if batch.ids is not None else places
    text = ", ".join(str(int(place)) for place in shown[:most].cpu())
    more = f" and {len(places) - most} more" if len(places) > most else ""
    return f"batch {number}, {'samples' if known else 'rows'} {text}{more}"


def comparable(seen: Observation) -> bool:
    """Whether there is a teacher that answers for the same positions in the same number of classes."""
    return seen.teacher is not None and seen.teacher.logits.shape == seen.student.logits.shape


def labelled_rows(batch: Batch) -> int:
    """How many positions of a batch carry a label, or two that are known."""
    return 0 if batch.targets is None else int(replace(batch, mask=None).supervised.sum())


def device_of(distiller: Distiller) -> torch.device:
    """Where the student lives."""
    first = next(distiller.student.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def _in_time(items: Iterable[Any]) -> Iterator[Any]:
    """The first item always, the others until the time is up."""
    started = time.perf_counter()
    for item in items:
        yield item
        if time.perf_counter() - started > MOST_SECONDS:
            return


def _logits_only(knowledge: Knowledge) -> Knowledge:
    return Knowledge(logits=knowledge.dense, mask=knowledge.mask)
