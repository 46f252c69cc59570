"""Which source to take, before any is trained: how well its frozen features tell the target's classes apart."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from understudy.errors import InputError
from understudy.functional.transferability import centred_kernel_alignment, log_maximum_evidence
from understudy.measure.quality import Predictions, quality
from understudy.sources.forward import device_of, moved, resized
from understudy.tasks.task import Task
from understudy.transfer.probe import features_of, fitted_probe
from understudy.transfer.sources import heads_of


@dataclass(frozen=True)
class Score:
    """How well a network suits a task as a source.

    Attributes:
        evidence: LogME on the training samples; larger is better.
        probe: the task's metric on the validation samples, with a linear classifier on the frozen features.
        features: how many there are.
        alignment: linear CKA with the teacher's features, 0 to 1; None without a teacher.
        seconds: that it took.
    """

    evidence: float
    probe: float
    features: int
    alignment: float | None
    seconds: float


def score_source(
    network: nn.Module,
    train: Iterable[Any],
    val: Iterable[Any],
    *,
    task: Task,
    classes: int,
    teacher: Tensor | None = None,
) -> Score:
    """How well a network's features suit a task; nothing is trained but a linear classifier.

    Args:
        network: with a linear head for whatever classes; left as it is.
        train: labelled batches, some hundreds or thousands of samples in all, in the same order for all sources.
        val: other labelled batches.
        task: how it is called.
        classes: of the task.
        teacher: another network's features of the training samples, as :func:`penultimate` gives them.

    Raises:
        InputError: for a network that does not take the inputs, or does not end in a linear layer.
    """
    begun = time.perf_counter()
    features, targets = penultimate(network, train, task)
    others, answers = penultimate(network, val, task)
    weight, bias = fitted_probe(features, targets, classes=classes)
    seen = quality(Predictions(others @ weight.T + bias, answers, ids=None), task)
    return Score(
        evidence=float(log_maximum_evidence(features, targets)),
        probe=seen[task.metric],
        features=features.shape[1],
        alignment=None if teacher is None else float(centred_kernel_alignment(features, teacher)),
        seconds=time.perf_counter() - begun,
    )


def penultimate(network: nn.Module, loader: Iterable[Any], task: Task) -> tuple[Tensor, Tensor]:
    """What a network's last layer reads, and the labels: features (samples, features) and targets (samples,).

    Args:
        network: left as it is.
        loader: labelled batches.
        task: how it is called.

    Raises:
        InputError: for a network that does not take the inputs, or does not end in a linear layer.
    """
    batches = list(loader)
    if not batches:
        raise InputError("a score needs samples, and the loader gives none")
    inputs = moved(resized(task.batch(batches[0]).inputs, 2), device_of(network))
    with torch.no_grad():
        head = heads_of(network, inputs, task)[-1]
    return features_of(network, head, batches, task)
