"""Training one model of a run: what `train`, `distill` and its control have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from understudy.cohort import Cohort
from understudy.distiller import Distiller
from understudy.engine.fit import Fitted, fit
from understudy.engine.training import Training
from understudy.errors import InputError, listing
from understudy.objective import Objective
from understudy.pipeline.directory import read_json, write_json
from understudy.pipeline.snapshots import SnapshotTaker
from understudy.pipeline.stage import Context, artifact_of, stage_of
from understudy.pipeline.teaching import Average
from understudy.reused_head import ReusedHead, reuse_head
from understudy.sources.artifact import load_artifact, save_artifact
from understudy.sources.loader import Loader
from understudy.sources.model_specs import AnyModel
from understudy.sources.models import build_model
from understudy.sources.splits import Split
from understudy.sources.state import load_state
from understudy.taps import unwrapped
from understudy.teachers.teacher import Teacher
from understudy.views import Views

EVALUATION_BATCH = 500
SUMMARY = "training.json"
"""Written last: a directory that has it holds a finished training."""


@dataclass(frozen=True)
class Shown:
    """How samples are shown.

    Attributes:
        views: their augmentation.
        seed: of the views; that of the run when not given.
        cycle: how many views there are; None: another one in each epoch.
    """

    views: Views | None = None
    seed: int | None = None
    cycle: int | None = None


def train_model(
    context: Context,
    *,
    model: AnyModel | Mapping[str, AnyModel],
    objective: Objective,
    teacher: Teacher | Average | None,
    split: Split,
    training: Training,
    shown: Shown,
    directory: Path,
    title: str,
    start: nn.Module | None = None,
    reuses_head_of: nn.Module | None = None,
    snapshots: Sequence[float] = (),
    before: Callable[[Distiller], None] | None = None,
) -> dict[str, Any]:
    """Build a model from its description, train it, and leave its artifact in ``directory``.

    A directory that already holds the finished artifact is left alone. The seed decides the initial weights, so
    that a student and its control start from the same ones. The weights of the last step are kept beside those
    that were selected, where they differ.

    Args:
        context: the run.
        model: which network; several by name train together, and the first one is the student.
        objective: what it is trained on.
        teacher: who is asked, an average of the student itself, or None for training alone.
        split: what it sees.
        training: how it is trained.
        shown: how the samples are shown.
        directory: where everything goes.
        title: what the progress display calls it.
        start: a trained network of the same kind, whose weights it begins with.
        reuses_head_of: a network whose classifier it gets, frozen, behind a projector.
        snapshots: after which parts of the training its weights are kept beside the artifact.
        before: called with the distiller before the first step.

    Returns:
        What there is to record about the training, as JSON.

    Raises:
        InputError: when the network to start from is another one.
    """
    if (summary := directory / SUMMARY).is_file():
        return read_json(summary)
    loader, validation = train_loader(context, split, training, shown), evaluation_loader(context, "validation")
    example = next(iter(loader))
    torch.manual_seed(context.seed)
    student = build_student(model, context, example.inputs, start)
    edits = () if reuses_head_of is None else (reuse_head(student, reuses_head_of, example=example, task=context.task),)
    teacher = teacher.of(student, context.task) if isinstance(teacher, Average) else teacher
    distiller = Distiller(student, teacher, objective, example=example, task=context.task)
    context.progress.stage(context.directory.path.parent.name, f"{title}, seed {context.seed}")
    if before is not None:
        before(distiller)
    inputs, classes = context.task.example(example.inputs, 1), context.data.classes

    def save(fitted: Fitted) -> None:
        if context.process.is_main:
            _save(fitted, student, directory, model, context, inputs, training, split, edits)

    def keep(name: str, network: nn.Module) -> None:
        if context.process.is_main:
            for place, trained, spec in _networks(network, model, directory):
                save_artifact(place, trained, spec=spec, classes=classes, inputs=inputs, edits=edits, name=name)

    fit(
        distiller,
        loader,
        training,
        val=validation,
        seed=context.seed,
        directory=directory,
        progress=context.progress,
        trackers=context.trackers,
        callbacks=[SnapshotTaker(snapshots, keep)] if snapshots else (),
        finished=save,
    )
    context.process.wait()
    return read_json(summary)


def _save(
    fitted: Fitted,
    student: nn.Module,
    directory: Path,
    model: AnyModel | Mapping[str, AnyModel],
    context: Context,
    inputs: Any,
    training: Training,
    split: Split,
    edits: Sequence[ReusedHead],
) -> None:
    """Leave the selected weights, the last ones where they differ, and the record of the training."""
    record = training_record(fitted, training, samples=len(split), labelled=split.labelled)
    classes, metadata = context.data.classes, {"training": record}
    if training.select == "best" and fitted.best_metric != fitted.last_metric:
        student.load_state_dict(fitted.last_state)
        for place, network, spec in _networks(student, model, directory):
            save_artifact(place, network, spec=spec, classes=classes, inputs=inputs, edits=edits, name="last")
        student.load_state_dict(fitted.best_state)
    for place, network, spec in _networks(student, model, directory):
        save_artifact(place, network, spec=spec, classes=classes, inputs=inputs, metadata=metadata, edits=edits)
    write_json(directory / SUMMARY, record)


def build_student(
    model: AnyModel | Mapping[str, AnyModel], context: Context, inputs: Any, start: nn.Module | None = None
) -> nn.Module:
    """The network that is trained, or several together, on the run's device.

    Args:
        model: which network, or which networks by name.
        context: the run.
        inputs: of an example batch.
        start: whose weights it begins with; None for fresh ones.

    Raises:
        InputError: when the network to start from is another one.
    """
    classes = context.data.classes
    if isinstance(model, Mapping):
        student = Cohort({name: build_model(spec, classes=classes, inputs=inputs) for name, spec in model.items()})
    else:
        student = build_model(model, classes=classes, inputs=inputs)
    if start is not None:
        check_same_network(student, start)
        load_state(student, start.state_dict(), whose="the model to start from")
    return student.to(context.process.device)


def _networks(
    student: nn.Module, model: AnyModel | Mapping[str, AnyModel], directory: Path
) -> list[tuple[Path, nn.Module, AnyModel]]:
    """Where each trained network goes: the first one into the directory, the others below it."""
    if not isinstance(model, Mapping):
        return [(directory, student, model)]
    assert isinstance(student, Cohort)
    places = [directory, *(directory / peer_directory(name) for name in list(model)[1:])]
    return list(zip(places, student.members.values(), model.values(), strict=True))


def peer_directory(name: str) -> str:
    """Where a student that trained together with the first one is left, below that one's directory."""
    return f"peers/{name}"


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


def referred(reference: str, context: Context) -> nn.Module:
    """The trained model that a recipe refers to: that of an earlier stage, or a snapshot of it.

    Args:
        reference: such as ``cnn`` or ``cnn@2``.
        context: the run.

    Raises:
        InputError: when it is not there, or its classes are not those of the data.
    """
    return load_model(context.upstream[stage_of(reference)].path, context, name=artifact_of(reference))


def check_same_network(network: nn.Module, start: nn.Module) -> None:
    """See that one network can begin with the weights of another.

    Raises:
        InputError: naming what is not in both, or not of one shape.
    """
    own, other = (unwrapped(each).state_dict() for each in (network, start))
    names = [name for name in own | other if name not in own or name not in other]
    shapes = [
        f"{name!r} has the shape {tuple(other[name].shape)} there and {tuple(own[name].shape)} here"
        for name in own
        if name in other and own[name].shape != other[name].shape
    ]
    problems = shapes[:3] + ([f"not in both: {listing(names, most=4)}"] if names else [])
    if problems:
        raise InputError(f"expected a model of the same network to start from; {'; '.join(problems)}")


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
