"""The doctor's look at a recipe before it runs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from understudy.distiller import Distiller
from understudy.doctor import Finding, diagnose
from understudy.engine.generated import GeneratedLoader
from understudy.engine.process import process
from understudy.engine.progress import SilentProgress
from understudy.objective import Objective
from understudy.pipeline.directory import RunDirectory
from understudy.pipeline.elsewhere import Elsewhere
from understudy.pipeline.recorded import shown_with
from understudy.pipeline.stage import Context, Description, Stage, network_of, stage_of
from understudy.pipeline.stages.data_free import DataFree
from understudy.pipeline.stages.distill import Distill
from understudy.pipeline.stages.load import Load
from understudy.pipeline.stages.mutual import Mutual, mutual_objective
from understudy.pipeline.stages.record import Record
from understudy.pipeline.students import fresh
from understudy.pipeline.teaching import Average, teacher_names, teacher_of
from understudy.pipeline.training import Shown, evaluation_loader, train_loader
from understudy.reused_head import reuse_head
from understudy.sources.data import load_data
from understudy.sources.loader import Loader
from understudy.sources.models import build_model
from understudy.sources.splits import Subset
from understudy.teachers import ModuleTeacher, Teacher

OF_TRAINED_TEACHERS = frozenset(
    {
        "teacher_quality",
        "class_order",
        "input_normalisation",
        "swapped",
        "same_samples",
        "augmented_samples",
        "temperature",
        "term_balance",
    }
)
"""Checks that mean nothing while the teacher has not been trained."""


def deep_check(recipe: Description) -> list[Finding]:
    """Load the data, build the models of every stage that distils, and examine each as it would train.

    A teacher that the recipe itself trains does not exist yet: what depends on its answers is checked when the
    run comes to it, and a note says so.

    Raises:
        InputError: when data, models or objective cannot be put together at all.
    """
    data = load_data(recipe.data, task=recipe.task)
    stages = {stage.name: stage for stage in recipe.stages}
    findings = []
    with tempfile.TemporaryDirectory() as scratch:
        for stage in recipe.stages:
            if isinstance(stage, Distill | DataFree | Mutual):
                context = Context(
                    task=recipe.task.of_classes(len(data.classes)),
                    data=data,
                    seed=recipe.seeds[0],
                    first=True,
                    directory=RunDirectory(Path(scratch)).stage(stage.name, recipe.seeds[0]),
                    upstream={},
                    process=process(),
                    progress=SilentProgress(),
                    trackers=(),
                )
                findings += _examined(stage, stages, context)
    return findings


def _examined(stage: Distill | DataFree | Mutual, stages: Mapping[str, Stage], context: Context) -> list[Finding]:
    if isinstance(stage, DataFree):
        distiller, loader = _generating(stage, stages, context)
    elif isinstance(stage, Mutual):
        distiller, loader = _together(stage, context)
    else:
        distiller, loader = _distilling(stage, stages, context)
    found = diagnose(distiller, loader, val=evaluation_loader(context, "validation"), classes=context.data.classes)
    if isinstance(stage, Mutual):
        return found
    asked = _live(stage, stages) if isinstance(stage, Distill) else stage
    untrained = [name for name in teacher_names(asked.teacher) if not isinstance(stages[stage_of(name)], Load)]
    if isinstance(stage.teacher, Average):  # it begins as the student, so that its terms begin at zero
        return [finding for finding in found if finding.check != "term_balance"]
    if not untrained:
        return found
    return [*(finding for finding in found if finding.check not in OF_TRAINED_TEACHERS), _not_yet(stage, untrained)]


def _generating(stage: DataFree, stages: Mapping[str, Stage], context: Context) -> tuple[Distiller, GeneratedLoader]:
    inputs = next(iter(evaluation_loader(context, "validation"))).inputs
    network = network_of(stage_of(stage.teacher), stages)
    teacher = build_model(network, classes=context.data.classes, inputs=inputs)
    return stage.distiller(context, ModuleTeacher(teacher, task=context.task))


def _together(stage: Mutual, context: Context) -> tuple[Distiller, Loader]:
    split = context.data.train.subset(stage.subset or Subset(), context.seed)
    loader = train_loader(context, split, stage.training, Shown(stage.views))
    example = next(iter(loader))
    torch.manual_seed(context.seed)
    students = fresh(stage.models, context)(example).network
    terms = mutual_objective(stage.objective, tuple(stage.models))
    chunk = stage.training.head_chunk
    return Distiller(students, None, terms, example=example, task=context.task, head_chunk=chunk), loader


def _distilling(stage: Distill, stages: Mapping[str, Stage], context: Context) -> tuple[Distiller, Loader]:
    split = context.data.train.subset(stage.subset or Subset(), context.seed)
    asked = _live(stage, stages)
    inputs = next(iter(evaluation_loader(context, "validation"))).inputs
    networks = {
        name: build_model(
            context.fitted(network_of(stage_of(name), stages)), classes=context.data.classes, inputs=inputs
        )
        for name in teacher_names(asked.teacher)
    }
    members: dict[str, Teacher] = {
        name: ModuleTeacher(network, task=context.task) for name, network in networks.items()
    }
    if isinstance(asked.teacher, Elsewhere):
        members = {asked.teacher.kind: asked.teacher.teacher(context)}
    loader = train_loader(context, split, stage.training, shown_with(members, asked.views, split))
    example = next(iter(loader))
    torch.manual_seed(context.seed)
    student = build_model(context.fitted(stage.model), classes=context.data.classes, inputs=example.inputs)
    if stage.reuse_head:
        (network,) = networks.values()
        reuse_head(student, network, example=example, task=context.task)
    teacher = teacher_of(asked.teacher, members, combine=asked.combine)
    distiller = Distiller(
        student,
        teacher.of(student, context.task) if isinstance(teacher, Average) else teacher,
        Objective(stage.objective, stage.balance),
        example=example,
        task=context.task,
        head_chunk=stage.training.head_chunk,
    )
    return distiller, loader


def _live(stage: Distill, stages: Mapping[str, Stage]) -> Distill | Record:
    """The stage that asks the teacher itself: the one that records it, where the students learn from that."""
    source = stages.get(stage.teacher) if isinstance(stage.teacher, str) else None
    return source if isinstance(source, Record) else stage


def _not_yet(stage: Distill | DataFree, untrained: list[str]) -> Finding:
    return Finding(
        check="teacher_quality",
        severity="note",
        message=f"the teacher of {stage.name!r} is trained by the recipe itself, so its quality is not known yet",
        seen=f"stage {', '.join(map(repr, untrained))} comes before",
        remedy="nothing: the run checks it before the student's first step",
    )
