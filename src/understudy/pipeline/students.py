"""The networks that the trainings of a run begin with."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from understudy.batch import Batch
from understudy.cohort import Cohort
from understudy.edits import AnyEdit
from understudy.engine.pace import Pace
from understudy.pipeline.stage import Context, artifact_of, stage_of
from understudy.pipeline.starting import Start, begin_with, start_reads
from understudy.reused_head import reuse_head
from understudy.sources.artifact import load_artifact
from understudy.sources.model_specs import AnyModel, ArtifactModel
from understudy.sources.models import build_model
from understudy.transfer import Tuning, merge_factors, pace_of, put_factors_beside


@dataclass(frozen=True)
class Student:
    """What is trained.

    Attributes:
        network: on the run's device; several in a :class:`~understudy.cohort.Cohort`.
        spec: what it was built from; by name, where there are several.
        edits: what was changed in it since.
        fresh: parameters that begin at random, where the others were trained before.
        pace: how its parts train; all alike when not given.
        plain: makes of the network, in place, the one that is kept, where something stands in it only to train it.
    """

    network: nn.Module
    spec: AnyModel | Mapping[str, AnyModel]
    edits: tuple[AnyEdit, ...] = ()
    fresh: tuple[str, ...] = ()
    pace: Pace | None = None
    plain: Callable[[nn.Module], nn.Module] | None = None

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Each network, where several train together."""
        return tuple(self.network.members.values()) if isinstance(self.network, Cohort) else (self.network,)

    def parts(self, directory: Path) -> list[tuple[Path, nn.Module, AnyModel]]:
        """Where each network goes: the first one into the directory, the others below it."""
        if not isinstance(self.spec, Mapping):
            network = self.network if self.plain is None else self.plain(copy.deepcopy(self.network))
            return [(directory, network, self.spec)]
        assert isinstance(self.network, Cohort)
        places = [directory, *(directory / peer_directory(name) for name in list(self.spec)[1:])]
        return list(zip(places, self.network.members.values(), self.spec.values(), strict=True))


Beginning = Callable[[Batch], Student]
"""Makes a student for the batches that one is an example of. The seed is set before."""


def tuned(begin: Beginning, tuning: Tuning | None) -> Beginning:
    """The same student, with parts that train at a pace of their own.

    Args:
        begin: makes it.
        tuning: what the recipe says of its parts; None: they train alike.

    Raises:
        InputError: once it is made, when it does not have the parts.
    """
    if tuning is None:
        return begin

    def begin_tuned(example: Batch) -> Student:
        student = begin(example)
        if tuning.lora is not None:
            network = put_factors_beside(student.network, tuning.lora)
            student = replace(student, network=network, plain=merge_factors)
        return replace(student, pace=pace_of(tuning, student.network, fresh=student.fresh))

    return begin_tuned


def peer_directory(name: str) -> str:
    """Where a student that trained together with the first one is left, below that one's directory."""
    return f"peers/{name}"


def fresh(
    model: AnyModel | Mapping[str, AnyModel],
    context: Context,
    *,
    start: Start | str | None = None,
    reuses_head_of: nn.Module | None = None,
) -> Beginning:
    """A network that is built from its description.

    Args:
        model: which network; several by name train together, and the first one is the student.
        context: the run.
        start: an earlier model of the same network, whose weights it begins with, or a larger one of the same kind.
        reuses_head_of: a network whose classifier it gets, frozen, behind a projector.

    Raises:
        InputError: once it is made, when the network to start from is of another kind.
    """

    def begin(example: Batch) -> Student:
        classes = context.data.classes
        if isinstance(model, Mapping):
            spec = {name: context.fitted(each) for name, each in model.items()}
            members = {name: build_model(each, classes=classes, inputs=example.inputs) for name, each in spec.items()}
            network: nn.Module = Cohort(members)
        else:
            spec = context.fitted(model)
            network = build_model(spec, classes=classes, inputs=example.inputs)
        network = network.to(context.process.device)
        if start is not None:
            (origin,) = start_reads(start)
            begin_with(network, referred(origin, context), start, example, context)
        if reuses_head_of is None:
            return Student(network, spec)
        return Student(network, spec, (reuse_head(network, reuses_head_of, example=example, task=context.task),))

    return begin


def edited(reference: str, network: nn.Module, edits: tuple[AnyEdit, ...], context: Context) -> Beginning:
    """A copy of an earlier stage's network in which something was changed since.

    Args:
        reference: the earlier model, such as ``cnn``.
        network: what became of it; it is left as it is.
        edits: what was changed, in this order.
        context: the run.
    """
    spec = spec_of(reference, context)
    return lambda _: Student(copy.deepcopy(network).to(context.process.device), spec, edits)


def spec_of(reference: str, context: Context) -> ArtifactModel:
    """An earlier model as a description of where it is.

    Args:
        reference: such as ``cnn`` or ``cnn@2``.
        context: the run.
    """
    folder = context.upstream[stage_of(reference)].path
    return ArtifactModel(path=str(folder / f"{artifact_of(reference)}.json"))


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
