"""How good a model's answers are, and how much they are its teacher's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from understudy.batch import IGNORE_INDEX, Batch
from understudy.errors import InputError
from understudy.functional.divergences import kl_divergence
from understudy.knowledge import Knowledge
from understudy.sources.forward import device_of, evaluating

if TYPE_CHECKING:  # a task brings torchmetrics, which the process that measures memory can do without
    from understudy.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model answered for a whole split, on the CPU.

    Attributes:
        logits: (positions, classes) float32; a position is a sample, or a place in one that counts.
        targets: (positions,) int64, ``IGNORE_INDEX`` where there is no label.
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
        parts = [_answered(model, task.batch(raw).to(place), task) for raw in loader]
    if not parts:
        raise InputError("expected at least one batch to predict on, the loader is empty")
    known = [part.ids for part in parts if part.ids is not None]
    return Predictions(
        logits=torch.cat([part.logits for part in parts]),
        targets=torch.cat([part.targets for part in parts]),
        ids=torch.cat(known) if len(known) == len(parts) else None,
    )


def quality(predictions: Predictions, task: Task) -> dict[str, float]:
    """The task's metrics over what is labelled, with the number of ``samples`` and of ``errors`` among them.

    Args:
        predictions: of one model.
        task: names the metrics.

    Raises:
        InputError: when nothing is labelled, or a label is not one of the classes.
    """
    logits, targets = _labelled(predictions)
    metrics = task.metrics(logits.shape[-1])
    for metric in metrics.values():
        metric.distributed_available_fn = _alone
    metrics.update(logits, targets)
    values = {name: float(value) for name, value in metrics.compute().items()}
    errors = int((logits.argmax(-1) != targets).sum())
    return {**values, "errors": float(errors), "samples": float(len(targets))}


def _alone() -> bool:
    """For torchmetrics: all predictions are here, and no other process is waiting to add its own."""
    return False


def agreement(student: Predictions, teacher: Predictions) -> dict[str, float]:
    """How much a student answers what its teacher answers, labelled or not.

    Args:
        student: its predictions.
        teacher: the teacher's for the same samples, in any order if they have ids.

    Returns:
        ``agreement``, the fraction of positions at which both have the same best class, and ``kl_from_teacher``, the
        mean Kullback-Leibler divergence of the student from the teacher in nats.

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
    divergence = kl_divergence(student.logits, teacher.logits)
    return {"agreement": float(same.float().mean()), "kl_from_teacher": float(divergence.double().mean())}


def confusion(predictions: Predictions) -> list[list[int]]:
    """How often each class (row) was taken for each class (column), over what is labelled.

    Raises:
        InputError: when nothing is labelled, or a label is not one of the classes.
    """
    logits, targets = _labelled(predictions)
    classes = logits.shape[-1]
    counts = torch.bincount(targets * classes + logits.argmax(-1), minlength=classes * classes)
    return counts.view(classes, classes).tolist()


def _answered(model: nn.Module, batch: Batch, task: Task) -> Predictions:
    knowledge = task.observe(model, batch)
    logits = knowledge.logits
    positions = logits.shape[:-1]
    targets = batch.targets if batch.targets is not None else torch.full(positions, IGNORE_INDEX, device=logits.device)
    counts = _counting(knowledge, batch)
    ids = batch.ids
    if ids is not None:
        ids = ids.view(-1, *[1] * (len(positions) - 1)).expand(positions)
    return Predictions(
        logits=_chosen(logits, counts).float().cpu(),
        targets=_chosen(targets, counts).cpu(),
        ids=None if ids is None else _chosen(ids, counts).cpu(),
    )


def _counting(knowledge: Knowledge, batch: Batch) -> Tensor | None:
    return batch.mask if batch.mask is not None else knowledge.mask


def _chosen(values: Tensor, counts: Tensor | None) -> Tensor:
    if counts is not None:
        return values[counts]
    return values.flatten(0, values.ndim - 2) if values.is_floating_point() else values.flatten()


def _labelled(predictions: Predictions) -> tuple[Tensor, Tensor]:
    labelled = predictions.targets != IGNORE_INDEX
    logits, targets = predictions.logits[labelled], predictions.targets[labelled]
    classes = logits.shape[-1]
    if len(targets) == 0:
        raise InputError(f"none of the {len(predictions)} samples has a label; expected a labelled split to measure on")
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
        if torch.equal(teacher.targets, student.targets):
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
