"""Compressing a trained model step by step, and training that gives back what each step cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

import torch
from pydantic import model_validator
from torch import nn

from understudy.doctor import Finding, TeacherWatch
from understudy.edits import AnyEdit
from understudy.engine.training import Training
from understudy.measure.cost import Cost
from understudy.methods import AnyMethod
from understudy.methods.cross_entropy import CrossEntropy
from understudy.methods.soft_targets import SoftTargets
from understudy.objective import Objective
from understudy.pipeline.control import CONTROL, comparison_record, examination, harm, train_control
from understudy.pipeline.recorded import asked_of, behind, shown_with, teachers_of
from understudy.pipeline.stage import Context, Name, Reference, Stage, stage_of
from understudy.pipeline.students import Beginning, edited, load_model, referred, spec_of
from understudy.pipeline.teaching import Average, Teaching, asking_problems, content_of, teacher_names, teacher_of
from understudy.pipeline.training import evaluation_loader, train_loader, train_model
from understudy.sources.artifact import save_artifact
from understudy.sources.splits import Subset
from understudy.spec import Spec, refuse
from understudy.views import Views

Train = Callable[[Beginning, Path, Training, str], dict[str, Any]]
"""Trains a network into a directory; the last argument is added to its title."""
Step = Callable[[nn.Module], tuple[nn.Module, tuple[AnyEdit, ...]]]
"""Compresses a network further: what became of it (the network that it is given stays as it is), and all that was
changed in it since the first step."""


@final
class Recovery(Spec):
    """Training after a network was compressed. A teacher tells it what it forgot; the control has none."""

    teacher: Teaching | None = None
    """Who teaches, as in a `distill` stage; the model before it was compressed when left out."""
    objective: tuple[AnyMethod, ...] = (CrossEntropy(weight=0.1), SoftTargets(temperature=4.0, weight=0.9))
    """Loss terms, summed with their weights."""
    subset: Subset | None = None
    """Which part of the training data, and with how many labels; everything when left out."""
    views: Views | None = None
    """Augmentation of what it sees."""
    training: Training
    """How long it trains, and with which optimizer."""
    between: Training | None = None
    """The same after every step but the last, where a network is compressed in several; as the last when left out."""
    control: bool = True
    """Train the same compressed network on the labelled part of the same data, for as many steps, without a teacher."""

    @model_validator(mode="after")
    def _consistent(self) -> Recovery:
        refuse([] if self.teacher is None else asking_problems(self.objective, self.teacher))
        return self


class Compressing(Stage):
    """A stage that makes an earlier stage's model smaller or faster, and may train it afterwards."""

    model: Reference
    """The earlier stage whose model is taken."""
    recovery: Recovery | None = None
    """The training afterwards, beside a control without a teacher; none when left out."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages of the model and of its teachers."""
        return tuple(dict.fromkeys(map(stage_of, self.reads)))

    @property
    def reads(self) -> tuple[str, ...]:
        """The model, and its teachers."""
        return (self.model, *(() if self.recovery is None else teacher_names(self.recovery.teacher)))

    @property
    def asks(self) -> tuple[str, ...]:
        """The teachers of the recovery."""
        return tuple(name for name in self.reads[1:] if name != self.model)

    @property
    def outside(self) -> dict[str, str | None]:
        """A teacher from elsewhere."""
        return {} if self.recovery is None else content_of(self.recovery.teacher)

    @property
    def network(self) -> Name:
        """That of the earlier stage."""
        return stage_of(self.model)


def counted(cost: Cost) -> dict[str, int]:
    """What a network costs, as a record has it."""
    return {"macs": cost.macs, "params": cost.parameters, "bytes": cost.size_bytes}


def compress(context: Context, model: Reference, steps: Sequence[Step], recovery: Recovery | None) -> dict[str, Any]:
    """Compress an earlier stage's model; leave what comes out in the stage's directory, and its control below it.

    Args:
        context: the run.
        model: the earlier model.
        steps: what is done to it; each begins with what the one before has left, trained.
        recovery: the training after each step; None for none.

    Returns:
        What there is to record, as JSON.

    Raises:
        InputError: when a step cannot be done, or the teacher is not fit to teach.
        RunError: when the teacher's weights changed while it taught.
    """
    if recovery is not None:
        return _recovered(context, model, steps, recovery)
    network, edits = referred(model, context), ()
    for step in steps:
        network, edits = step(network)
    if context.process.is_main:
        inputs = context.task.example(next(iter(evaluation_loader(context, "validation"))).inputs, 1)
        save_artifact(
            context.directory.path,
            network,
            spec=spec_of(model, context),
            classes=context.data.classes,
            task=context.task.kind,
            inputs=inputs,
            edits=edits,
        )
    context.process.wait()
    return {"models": {"model": "."}, "start": model, "data": "not trained afterwards"}


def _recovered(context: Context, model: Reference, steps: Sequence[Step], recovery: Recovery) -> dict[str, Any]:
    subset = recovery.subset or Subset()
    split = context.data.train.subset(subset, context.seed)
    teaching = recovery.teacher or model
    members = teachers_of(teaching, context)
    shown = shown_with(members, recovery.views, split)
    distils = any(term.distils for term in recovery.objective)

    def alone(begin: Beginning, directory: Path, training: Training, title: str) -> dict[str, Any]:
        return train_control(
            context,
            begin=begin,
            terms=recovery.objective,
            split=split,
            training=training,
            shown=replace(shown, cycle=None),
            directory=directory / CONTROL,
            title=f"{CONTROL}{title}",
        )

    control = None
    if recovery.control and distils:
        control = _stepwise(context, model, steps, recovery, alone, place=CONTROL)
    teacher = teacher_of(teaching, members, combine="mean") if distils else None
    watch = TeacherWatch(None if isinstance(teacher, Average) else teacher)
    findings: list[Finding] = []

    def taught(begin: Beginning, directory: Path, training: Training, title: str) -> dict[str, Any]:
        return train_model(
            context,
            begin=begin,
            objective=Objective(recovery.objective),
            teacher=teacher,
            split=split,
            training=training,
            shown=shown,
            directory=directory,
            title=f"compressed model{title}",
            before=examination(context, findings, None, train=train_loader(context, split, training, shown)),
        )

    student = _stepwise(context, model, steps, recovery, taught, place=".")
    watch.check()
    names = teacher_names(teaching) if distils else ()
    findings += harm(context, student, control, terms=recovery.objective)
    return {
        **comparison_record(context, student, control, findings),
        "description": asked_of(names, context),
        "teacher": behind(names, context),
        "start": model,
        "data": subset.describe(context.data.train),
    }


def _stepwise(
    context: Context, model: Reference, steps: Sequence[Step], recovery: Recovery, train: Train, *, place: str
) -> dict[str, Any]:
    """Take a step and train, until all are done; the last training's record."""
    network, record = referred(model, context), {}
    for number, step in enumerate(steps, 1):
        last = number == len(steps)
        directory = context.directory.path if last else context.directory.path / f"step-{number}"
        torch.manual_seed(context.seed)
        network, edits = step(network)
        training = recovery.training if last else recovery.between or recovery.training
        title = "" if len(steps) == 1 else f", step {number} of {len(steps)}"
        record = train(edited(model, network, edits, context), directory, training, title)
        if not last:
            network = load_model(directory / place, context)
    return record
