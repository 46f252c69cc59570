"""Train a model on, that was trained on other data, and beside it the control: the same network from random weights."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, final

import torch
from pydantic import Field, model_validator
from torch import nn

from understudy.batch import Batch
from understudy.doctor import Finding, TeacherWatch
from understudy.engine.training import Training
from understudy.errors import InputError
from understudy.methods import AnyMethod
from understudy.objective import Objective
from understudy.pipeline.control import CONTROL, comparison_record, harm
from understudy.pipeline.stage import Context, Stage
from understudy.pipeline.students import Student, tuned
from understudy.pipeline.teaching import asking_problems
from understudy.pipeline.training import EVALUATION_BATCH, Shown, evaluation_loader, train_model
from understudy.sources.artifact import save_artifact
from understudy.sources.loader import Loader
from understudy.sources.model_specs import AnyModel, ModelSpec
from understudy.sources.models import describe
from understudy.sources.splits import Split, Subset
from understudy.spec import digest, refuse
from understudy.teachers import ModuleTeacher
from understudy.transfer import Tuning, units_of
from understudy.transfer.probe import put_probe
from understudy.transfer.sources import (
    Head,
    Source,
    body_of,
    heads_of,
    kept_units,
    scratch_network,
    source_network,
    with_units,
)
from understudy.transfer.tuning import frozen_names
from understudy.views import Views

BEFORE = "before"
"""The folder of the source as it is, and its name in the record."""


@final
class Transfer(Stage):
    """Train a model on, that was trained on other data, and the control that shows what it had brought along.

    Beside both, the source is kept as it is: with its own head where the classes are the same, and otherwise with
    the best linear head on its frozen features.
    """

    kind: Literal["transfer"] = "transfer"
    model: AnyModel
    """The source: a saved model such as `{source: artifact, path: runs/cifar10/stages/teacher/seed-0}`, whatever its
    classes, or pretrained weights."""
    head: Head = "auto"
    """`keep` the last layer, which needs the same classes in the same order; a `new` one with random weights; `auto`
    keeps a saved model's where the classes are the same."""
    units: Annotated[int, Field(ge=0)] | None = None
    """Only so many units of the source, counted from the inputs, keep their weights; all behind them begin at random,
    and so does the head. With as many under `tuning.freeze` it says how far the source's layers suit these data as they
    are, without how far they do to begin with (Yosinski et al. 2014). All when left out."""
    tuning: Tuning = Tuning()
    """What is frozen, what trains more slowly, what begins later, and what is held near where it was."""
    objective: tuple[AnyMethod, ...] | None = None
    """Loss terms; the task's own supervised loss when left out. A term that asks a teacher asks the source as it was:
    on layers it holds the features (DELTA), and on outputs, with the old head, the answers (learning without
    forgetting)."""
    subset: Subset | None = None
    """Which part of the training data it sees, and with how many labels; everything when left out. Only labelled
    samples are seen, unless a term asks the source."""
    views: Views | None = None
    """Augmentation of the training inputs."""
    training: Training
    """How long it trains, and with which optimizer."""
    control: bool = True
    """Train the same network from random weights on the same samples, all of it at the full rate."""
    control_training: Training | None = None
    """Another training for the control, such as a larger learning rate; the report then says so."""

    @model_validator(mode="after")
    def _consistent(self) -> Transfer:
        asking = asking_problems(self.objective or (), "source" if self._asks_source else None)
        refuse([*asking, *self._unit_problems()])
        return self

    @property
    def network(self) -> ModelSpec:
        """The source's."""
        return self.model

    @property
    def wanted_head(self) -> Head:
        """Whose head it begins with; where not all units are kept, always a new one."""
        return self.head if self.units is None else "new"

    def run(self, context: Context) -> dict[str, Any]:
        """Leave the model in the stage's directory, the control in ``control/`` and the source in ``before/``.

        Where only some units of the source are kept, ``before/`` is left out: nothing of it was the source as it is.

        Raises:
            InputError: when the source cannot be had or does not fit; nothing was trained.
            RunError: when the source's weights changed while it was asked.
        """
        subset = self.subset or Subset()
        split = context.data.train.subset(subset, context.seed)
        labelled = split.select(split.known.nonzero().flatten())
        seen = split if self._asks_source else labelled
        kept = self._kept(context)
        if kept is None:
            self._keep_source(context, labelled)
        objective = Objective(self.objective or (context.task.supervised,))
        train = partial(train_model, context, shown=Shown(self.views))
        control = None
        if self.control:
            control = train(
                begin=lambda example: self._begin(context, example, from_scratch=True),
                objective=objective.without_teacher(context.task.supervised) if self._asks_source else objective,
                teacher=None,
                split=labelled,
                training=self.control_training or self.training,
                directory=context.directory.path / CONTROL,
                title=f"{CONTROL}, from random weights",
            )
        teacher = self._teacher(context, seen) if self._asks_source else None
        watch = TeacherWatch(teacher)
        model = train(
            begin=tuned(lambda example: self._begin(context, example, from_scratch=False), self.tuning),
            objective=objective,
            teacher=teacher,
            split=seen,
            training=self.training,
            directory=context.directory.path,
            title="training on",
        )
        watch.check()
        findings: list[Finding] = harm(
            context,
            model,
            control,
            message="a network that begins with the source's weights ends worse than one from random weights",
            remedy="freeze less, raise the learning rate, train longer, or take another source",
        )
        return {
            **comparison_record(context, model, control, findings),
            "models": {
                # What stands beside a student is its control; without one, the models of the other stages do.
                "student" if self.control or kept is None else "model": ".",
                **({BEFORE: BEFORE} if (context.directory.path / BEFORE / "model.json").is_file() else {}),
                **({CONTROL: CONTROL} if control else {}),
            },
            "description": self._described(kept),
            **({"kept": kept} if kept is not None else {}),
            "control_lacks": "the source's weights",
            "data": subset.describe(context.data.train),
        }

    @property
    def _asks_source(self) -> bool:
        return any(term.needs_teacher for term in self.objective or ())

    def _unit_problems(self) -> list[tuple[tuple[str | int, ...], str]]:
        """What cannot be asked of a network that is the source only in part."""
        if self.units is None:
            return []
        problems: list[tuple[tuple[str | int, ...], str]] = []
        if self.head == "keep":
            message = "with units only the first ones are kept, and the head begins at random; leave head out"
            problems.append((("head",), message))
        if self.tuning.lora is not None:
            message = "the units behind those that are kept begin at random, and lora would leave them so; leave it out"
            problems.append((("tuning", "lora"), message))
        freeze = self.tuning.freeze
        if freeze == "body" or (isinstance(freeze, int) and freeze > self.units):
            message = (
                f"{freeze} would freeze what begins at random; freeze {self.units} units at most, as many as are kept"
            )
            problems.append((("tuning", "freeze"), message))
        return problems

    def _kept(self, context: Context) -> dict[str, Any] | None:
        """What there is to record about the units of the source, as JSON; None where all of it is kept.

        Raises:
            InputError: for more units than there are.
        """
        if self.units is None:
            return None
        source = self._source(context, next(iter(evaluation_loader(context, "validation"))))
        frozen = frozen_names(self.tuning.freeze, source.network, units_of(source.network))
        kept = kept_units(source, self.units)
        # What may differ between the stages of one experiment is left out.
        alike = self.model_dump(mode="json", exclude={"name", "units", "control", "control_training"})
        return {
            "units": len(kept),
            "frozen": len(list(takewhile(lambda unit: {*unit.parameters} <= frozen, kept))),
            "of": [unit.name for unit in body_of(source)],
            "source": describe(self.model),
            "experiment": digest(alike | {"tuning": self.tuning.model_dump(mode="json", exclude={"freeze"})}),
        }

    def _described(self, kept: dict[str, Any] | None) -> str:
        if kept is None:
            return f"trained on from {describe(self.model)}"
        frozen = f", {kept['frozen']} of them frozen" if kept["frozen"] else ""
        return (
            f"{kept['units']} of {len(kept['of'])} units kept of {kept['source']}{frozen}, the others begin at random"
        )

    def _source(self, context: Context, example: Batch) -> Source:
        return source_network(
            self.model, classes=context.data.classes, inputs=example.inputs, task=context.task, head=self.wanted_head
        )

    def _begin(self, context: Context, example: Batch, *, from_scratch: bool) -> Student:
        source = self._source(context, example)
        if from_scratch or self.units is not None:
            torch.manual_seed(context.seed)
            scratch = scratch_network(self.model, source, classes=context.data.classes, inputs=example.inputs)
            if from_scratch or self.units is None:
                source = replace(source, network=scratch)
            else:
                source = with_units(source, scratch, self.units)
        return Student(source.network.to(context.process.device), self.model, source.edits, source.fresh)

    def _teacher(self, context: Context, split: Split) -> ModuleTeacher:
        torch.manual_seed(context.seed)
        source = self._source(context, next(iter(Loader(split, batch_size=2, shuffle=False))))
        answers = [
            term.label
            for term in self.objective or ()
            if term.needs_teacher and not (term.teacher_taps or term.wants_pairs)
        ]
        if source.fresh and answers:
            raise InputError(
                f"{answers[0]} asks the source for its answers, and its head is new, so that they mean nothing; use "
                "methods on layers, such as hint or attention_transfer, or head: keep"
            )
        return ModuleTeacher(source.network.to(context.process.device), task=context.task)

    def _keep_source(self, context: Context, labelled: Split) -> None:
        """Leave the source as it is, with the best linear head of classes where it had another one; or not at all."""
        directory: Path = context.directory.path / BEFORE
        if (directory / "model.json").is_file() or not context.process.is_main:
            return
        batch = next(iter(evaluation_loader(context, "validation")))
        torch.manual_seed(context.seed)
        source = self._source(context, batch)
        network = source.network.to(context.process.device)
        if source.fresh:
            (head,) = heads_of(network, batch.to(context.process.device).inputs, context.task)[-1:]
            classes = context.data.classes
            if not isinstance(network.get_submodule(head), nn.Linear) or context.task.choices(classes) != classes:
                return
            put_probe(network, head, Loader(labelled, batch_size=EVALUATION_BATCH, shuffle=False), context.task)
        save_artifact(
            directory,
            network,
            spec=self.model,
            classes=context.data.classes,
            task=context.task.kind,
            inputs=context.task.example(batch.inputs, 1),
            edits=source.edits,
        )
