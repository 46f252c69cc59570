"""Training one model of a run: what `train`, `distill` and its control have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from understudy.distiller import Distiller
from understudy.engine.fit import Fitted, fit
from understudy.engine.on_policy import OnPolicy, OnPolicyLoader
from understudy.engine.training import Training
from understudy.objective import Objective
from understudy.pipeline.directory import read_json, write_json
from understudy.pipeline.snapshots import SnapshotTaker
from understudy.pipeline.stage import Context
from understudy.pipeline.students import Beginning, Student
from understudy.pipeline.teaching import Average
from understudy.sources.artifact import save_artifact
from understudy.sources.loader import Loader
from understudy.sources.splits import Split
from understudy.sources.texts import Texts
from understudy.teachers.teacher import Teacher
from understudy.tokenizing import tokenization_of
from understudy.views import Views

EVALUATION_BATCH = 500
_MOST_LOGITS = 2**25
"""Numbers that a model answers at once when windows of tokens are measured: 128 MiB."""
SUMMARY = "training.json"
"""Written last: a directory that has it holds a finished training."""


@dataclass(frozen=True)
class Shown:
    """How samples are shown.

    Attributes:
        views: their augmentation.
        seed: of the views; that of the run when not given.
        cycle: how many views there are; None: another one in each epoch.
        on_policy: how many batches are replaced by texts that the student writes itself; None: none.
    """

    views: Views | None = None
    seed: int | None = None
    cycle: int | None = None
    on_policy: OnPolicy | None = None


def train_model(
    context: Context,
    *,
    begin: Beginning,
    objective: Objective,
    teacher: Teacher | Average | None,
    split: Split,
    training: Training,
    shown: Shown,
    directory: Path,
    title: str,
    snapshots: Sequence[float] = (),
    before: Callable[[Distiller], None] | None = None,
) -> dict[str, Any]:
    """Train a model, and leave its artifact in ``directory``.

    A directory that already holds the finished artifact is left alone. The seed decides the initial weights, so
    that a student and its control start from the same ones. The weights of the last step are kept beside those
    that were selected, where they differ.

    Args:
        context: the run.
        begin: makes the network.
        objective: what it is trained on.
        teacher: who is asked, an average of the student itself, or None for training alone.
        split: what it sees.
        training: how it is trained.
        shown: how the samples are shown.
        directory: where everything goes.
        title: what the progress display calls it.
        snapshots: after which parts of the training its weights are kept beside the artifact.
        before: called with the distiller before the first step.

    Returns:
        What there is to record about the training, as JSON.

    Raises:
        InputError: when the network cannot be made.
    """
    if (summary := directory / SUMMARY).is_file():
        return read_json(summary)
    loader, validation = train_loader(context, split, training, shown), evaluation_loader(context, "validation")
    example = next(iter(loader))
    torch.manual_seed(context.seed)
    student = begin(example)
    teacher = teacher.of(student.network, context.task) if isinstance(teacher, Average) else teacher
    distiller = Distiller(
        student.network, teacher, objective, example=example, task=context.task, head_chunk=training.head_chunk
    )
    context.progress.stage(context.directory.path.parent.name, f"{title}, seed {context.seed}")
    for network in student.networks:
        if (note := cut_texts(network, split)) is not None:
            context.progress.message(note)
    if before is not None:
        before(distiller)
    inputs = context.task.example(example.inputs, 1)

    def save(fitted: Fitted) -> None:
        if context.process.is_main:
            _save(fitted, student, directory, context, inputs, training, split, shown)

    def keep(name: str, network: nn.Module) -> None:
        if context.process.is_main:
            _write(replace(student, network=network), directory, context, inputs, name=name)

    fit(
        distiller,
        _batches(loader, student.network, shown, context),
        training,
        val=validation,
        seed=context.seed,
        directory=directory,
        progress=context.progress,
        trackers=context.trackers,
        callbacks=[SnapshotTaker(snapshots, keep)] if snapshots else (),
        pace=student.pace,
        finished=save,
    )
    context.process.wait()
    return read_json(summary)


def _batches(loader: Loader, student: nn.Module, shown: Shown, context: Context) -> Loader | OnPolicyLoader:
    """What the student is shown: the data's batches, or some of its own between them."""
    if shown.on_policy is None:
        return loader
    return OnPolicyLoader(loader, student, shown.on_policy, task=context.task, seed=context.seed)


def _save(
    fitted: Fitted,
    student: Student,
    directory: Path,
    context: Context,
    inputs: Any,
    training: Training,
    split: Split,
    shown: Shown,
) -> None:
    """Leave the selected weights, the last ones where they differ, and the record of the training."""
    record = training_record(fitted, training, samples=len(split), labelled=split.labelled)
    settings = {"training": training, "views": shown.views}
    told = {key: value.model_dump(mode="json") for key, value in settings.items() if value is not None}

    if training.select == "best" and fitted.best_metric != fitted.last_metric:
        student.network.load_state_dict(fitted.last_state)
        _write(student, directory, context, inputs, name="last")
        student.network.load_state_dict(fitted.best_state)
    metadata = {"training": record | {"settings": told}}
    _write(student, directory, context, inputs, name="model", metadata=metadata)
    write_json(directory / SUMMARY, record)


def _write(
    student: Student,
    directory: Path,
    context: Context,
    inputs: Any,
    *,
    name: str,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Leave the artifact of each network of a student."""
    for place, network, spec in student.parts(directory):
        save_artifact(
            place,
            network,
            spec=spec,
            classes=context.data.classes,
            task=context.task.kind,
            inputs=inputs,
            metadata=metadata,
            edits=student.edits,
            name=name,
        )


def cut_texts(network: nn.Module, split: Split) -> str | None:
    """What a network does not read of the texts that it is trained on, in words; None where it reads all.

    Args:
        network: any.
        split: what it is trained on.
    """
    tokenization = tokenization_of(network)
    if tokenization is None or not isinstance(split.inputs, Texts):
        return None
    count = sum(tokenization.cut(batch.inputs) for batch in Loader(split, batch_size=1024, shuffle=False))
    if not count:
        return None
    return (
        f"{count:,} of {len(split):,} texts are longer than the {tokenization.spec.max_length:,} tokens that are read "
        "of them; the rest is left out"
    )


def train_loader(context: Context, split: Split, training: Training, shown: Shown) -> Loader:
    """Shuffled batches of a split, this process's part of each."""
    return Loader(
        split,
        batch_size=training.batch_size,
        seed=context.seed,
        views=shown.views,
        view_seed=shown.seed,
        cycle=shown.cycle,
        rank=context.process.rank,
        world=context.process.world,
    )


def evaluation_loader(context: Context, split: str) -> Loader:
    """The whole of ``validation`` or ``test`` in order, on every process."""
    samples: Split = getattr(context.data, split)
    answered = samples.targets[:1].numel() * len(context.task.choices(samples.classes))
    size = EVALUATION_BATCH
    if samples.targets.ndim > 1 and not samples.targets.is_floating_point():  # with logits of their own
        size = max(1, min(size, _MOST_LOGITS // answered))
    return Loader(samples, batch_size=size, shuffle=False)


def training_record(fitted: Fitted, training: Training, *, samples: int, labelled: int) -> dict[str, Any]:
    """What there is to record about a training, as JSON.

    Args:
        fitted: what it gave.
        training: how it was trained.
        samples: how many different samples were seen.
        labelled: how many of them with a label.
    """
    return {
        "steps": fitted.steps,
        "seconds": round(fitted.seconds, 3),
        "samples": samples,
        "labelled": labelled,
        "selected": training.select,
        "best_epoch": fitted.best_epoch,
        "best_metric": fitted.best_metric,
        "last_metric": fitted.last_metric,
        "plan": fitted.plan.model_dump(mode="json"),
        "resumed_from": fitted.resumed_from,
    }
