"""Training one model of a run: what `train`, `distill` and its control have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from understudy.distiller import Distiller
from understudy.engine.fit import Fitted, fit
from understudy.engine.training import Training
from understudy.objective import Objective
from understudy.pipeline.directory import read_json, write_json
from understudy.pipeline.stage import Context
from understudy.sources.artifact import load_artifact, save_artifact
from understudy.sources.loader import Loader
from understudy.sources.model_specs import AnyModel
from understudy.sources.models import build_model
from understudy.sources.splits import Split
from understudy.teachers.teacher import Teacher
from understudy.views import Views

EVALUATION_BATCH = 500
SUMMARY = "training.json"
"""Written last: a directory that has it holds a finished training."""


def train_model(
    context: Context,
    *,
    model: AnyModel,
    objective: Objective,
    teacher: Teacher | None,
    split: Split,
    training: Training,
    views: Views | None,
    directory: Path,
    title: str,
    before: Callable[[Distiller], None] | None = None,
) -> dict[str, Any]:
    """Build a model from its description, train it, and leave its artifact in ``directory``.

    A directory that already holds the finished artifact is left alone. The seed decides the initial weights, so
    that a student and its control start from the same ones. The weights of the last step are kept beside those
    that were selected, where they differ.

    Args:
        context: the run.
        model: which network.
        objective: what it is trained on.
        teacher: who is asked, None for training alone.
        split: what it sees.
        training: how it is trained.
        views: augmentation.
        directory: where everything goes.
        title: what the progress display calls it.
        before: called with the distiller before the first step.

    Returns:
        What there is to record about the training, as JSON.
    """
    summary = directory / SUMMARY
    if summary.is_file():
        return read_json(summary)
    loader, validation = train_loader(context, split, training, views), evaluation_loader(context, "validation")
    example = next(iter(loader))
    torch.manual_seed(context.seed)
    student = build_model(model, classes=context.data.classes, inputs=example.inputs)
    student.to(context.process.device)
    distiller = Distiller(student, teacher, objective, example=example, task=context.task)
    context.progress.stage(context.directory.path.parent.name, f"{title}, seed {context.seed}")
    if before is not None:
        before(distiller)
    inputs = context.task.example(example.inputs, 1)

    def save(fitted: Fitted) -> None:
        if context.process.is_main:
            _save(fitted, student, directory, model, context, inputs, training, split)

    fit(
        distiller,
        loader,
        training,
        val=validation,
        seed=context.seed,
        directory=directory,
        progress=context.progress,
        trackers=context.trackers,
        finished=save,
    )
    context.process.wait()
    return read_json(summary)


def _save(
    fitted: Fitted,
    student: nn.Module,
    directory: Path,
    model: AnyModel,
    context: Context,
    inputs: Any,
    training: Training,
    split: Split,
) -> None:
    """Leave the selected weights, the last ones where they differ, and the record of the training."""
    record = _record(fitted, training, split)
    if training.select == "best" and fitted.best_metric != fitted.last_metric:
        student.load_state_dict(fitted.last_state)
        save_artifact(directory, student, spec=model, classes=context.data.classes, inputs=inputs, name="last")
        student.load_state_dict(fitted.best_state)
    metadata = {"training": record}
    save_artifact(directory, student, spec=model, classes=context.data.classes, inputs=inputs, metadata=metadata)
    write_json(directory / SUMMARY, record)


def train_loader(context: Context, split: Split, training: Training, views: Views | None) -> Loader:
    """Shuffled batches of a split, this process's part of each."""
    return Loader(
        split,
        batch_size=training.batch_size,
        seed=context.seed,
        views=views,
        rank=context.process.rank,
        world=context.process.world,
    )


def evaluation_loader(context: Context, split: str) -> Loader:
    """The whole of ``validation`` or ``test`` in order, on every process."""
    return Loader(getattr(context.data, split), batch_size=EVALUATION_BATCH, shuffle=False)


def load_model(directory: Path, context: Context, *, name: str = "model") -> nn.Module:
    """The trained model of an earlier stage, on this run's device.

    Args:
        directory: the artifact.
        context: the run.
        name: ``model`` for the selected weights, ``last`` for those of the last step.

    Raises:
        InputError: when its classes are not those of the data, in number and order.
    """
    loaded = load_artifact(directory, name=name, classes=context.data.classes)
    return loaded.module.to(context.process.device)


def _record(fitted: Fitted, training: Training, split: Split) -> dict[str, Any]:
    return {
        "steps": fitted.steps,
        "seconds": round(fitted.seconds, 3),
        "samples": len(split),
        "labelled": split.labelled,
        "selected": training.select,
        "best_epoch": fitted.best_epoch,
        "best_metric": fitted.best_metric,
        "last_metric": fitted.last_metric,
        "plan": fitted.plan.model_dump(mode="json"),
        "resumed_from": fitted.resumed_from,
    }
