"""Whether the models of a recipe can be built and their layers joined, found before anything is trained."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from understudy.batch import IGNORE_INDEX, Batch
from understudy.compress.pruning import UnmetTargetError
from understudy.compress.quantization import check_quantizable
from understudy.distiller import Distiller
from understudy.errors import InputError
from understudy.knowledge import Knowledge
from understudy.methods import Method
from understudy.pipeline.recovery import Compressing, Recovery
from understudy.pipeline.stage import stage_of
from understudy.pipeline.stages import (
    DataFree,
    Distill,
    Factorise,
    Mutual,
    Prune,
    Quantize,
    Record,
    Scale,
    Train,
    Transfer,
)
from understudy.pipeline.starting import Start, check_same_network, start_reads
from understudy.pipeline.teaching import Average, Combine, Teaching, teacher_names, teacher_of
from understudy.recipe.problems import KeyPath, Problem
from understudy.recipe.schema import Recipe
from understudy.recordings import Storage
from understudy.reused_head import reuse_head
from understudy.sources.architecture import build_architecture
from understudy.sources.artifact import load_artifact
from understudy.sources.data import WINDOW, load_data
from understudy.sources.for_tokens import language_model
from understudy.sources.generator import image_shape
from understudy.sources.loader import Loader
from understudy.sources.model_specs import ArtifactModel, ModelSpec, TransformersModel
from understudy.sources.opening import local_path
from understudy.sources.tokenizers import open_tokens
from understudy.sources.windows import RunningTokens
from understudy.taps import layer_of, unreadable
from understudy.tasks import LanguageModel, SequenceToSequence, Task
from understudy.teachers import ModuleTeacher, Teacher
from understudy.tokenizing import DECODED, Tokenizer
from understudy.transfer import Tuning, pace_of, put_factors_beside, units_of
from understudy.transfer.replacing import Replacing, replace_blocks
from understudy.transfer.sources import Source, kept_units, source_network

USUAL_SIZE = (224, 224)


def joining_problems(recipe: Recipe) -> list[Problem]:
    """Build every model with random weights and try every loss term that reads layers on two samples.

    Data that are on this machine are read for that. For data that would have to be downloaded, inputs of the
    usual size stand in, and only layers are checked. Code that the recipe names under ``python`` is imported.

    Args:
        recipe: valid in itself.

    Raises:
        InputError: when the data cannot be read.
    """
    inputs, classes, is_real = _samples(recipe)
    bench = _Bench(recipe.task.of_classes(len(classes)), recipe.data.tokens, inputs, classes, is_real)
    for index, stage in enumerate(recipe.stages):
        if isinstance(stage, Transfer):
            bench.transfer(stage, ("stages", index))
        elif isinstance(stage.network, ModelSpec):
            bench.build(stage.name, stage.network, ("stages", index, "model"))
        elif stage.network in bench.models:
            bench.models[stage.name] = bench.models[stage.network]
        if isinstance(stage, Prune | Scale):
            bench.shrink(stage, ("stages", index))
    for index, stage in enumerate(recipe.stages):
        if isinstance(stage, Record):
            bench.keep(stage, ("stages", index, "keep"))
        if isinstance(stage, Train | Distill) and stage.start is not None:
            bench.begin(stage.name, stage.start, ("stages", index, "start"))
        if isinstance(stage, Train | Distill) and stage.tuning is not None:
            bench.tune(stage.name, stage.tuning, ("stages", index, "tuning"))
        if isinstance(stage, Train | Distill) and stage.training.head_chunk is not None:
            bench.chunk(stage, ("stages", index, "training", "head_chunk"))
        if isinstance(stage, Mutual):
            bench.cohort(stage, ("stages", index))
        if isinstance(stage, DataFree):
            bench.generate(("stages", index, "kind"))
        if isinstance(stage, Distill) and stage.replacing is not None:
            bench.replace(stage, stage.replacing, ("stages", index, "replacing"))
        if isinstance(stage, Distill) and stage.reuse_head:
            bench.reuse_head(stage, ("stages", index, "reuse_head"))
        if isinstance(stage, Distill | DataFree):
            for number, term in enumerate(stage.objective):
                bench.join(stage, term, ("stages", index, "objective", number))
        if isinstance(stage, Prune | Scale | Factorise) and stage.recovery is not None:
            bench.recover(stage, stage.recovery, ("stages", index, "recovery", "objective"))
        if isinstance(stage, Quantize):
            bench.quantize(stage, ("stages", index))
    return bench.problems


@dataclass
class _Bench:
    """Where models are put together for a moment."""

    task: Task
    tokens: RunningTokens | None
    inputs: Any
    classes: tuple[str, ...]
    is_real: bool
    models: dict[str, nn.Module] = field(default_factory=dict)
    recordings: dict[str, Teacher] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def build(self, name: str, spec: ModelSpec, path: KeyPath) -> None:
        if isinstance(spec, TransformersModel) and spec.name is not None and not Path(spec.name).expanduser().is_dir():
            return  # its configuration is on the hub; nothing is downloaded for a check
        try:
            with torch.random.fork_rng(devices=[]):
                fitted = spec
                if self.tokens is not None and isinstance(self.task, LanguageModel):
                    fitted = language_model(spec, self.tokens, self.task)
                self.models[name] = _built(fitted, classes=len(self.classes), inputs=self.inputs)
        except InputError as error:
            if self.is_real:
                self.problems.append(Problem(path, str(error)))

    def transfer(self, stage: Transfer, path: KeyPath) -> None:
        """Give the source a head for these data, and see that what is frozen is there."""
        fresh: tuple[str, ...] = ()
        if not isinstance(stage.model, ArtifactModel):
            self.build(stage.name, stage.model, (*path, "model"))
        else:
            try:
                source = source_network(
                    stage.model,
                    classes=self.classes,
                    inputs=self.inputs,
                    task=self.task,
                    head=stage.wanted_head,
                )
            except InputError as error:
                if self.is_real:
                    self.problems.append(Problem((*path, "model"), str(error)))
                return
            self.models[stage.name] = source.network
            fresh = source.fresh
        network = self.models.get(stage.name)
        if network is not None and stage.units is not None:
            try:
                kept_units(Source(network, (), fresh or units_of(network)[-1].parameters), stage.units)
            except InputError as error:
                self.problems.append(Problem((*path, "units"), str(error)))
        self.tune(stage.name, stage.tuning, (*path, "tuning"))

    def tune(self, name: str, tuning: Tuning, path: KeyPath) -> None:
        """See that what is to be frozen is there, and that something is left to train."""
        network = self.models.get(name)
        if network is None:
            return
        try:
            if tuning.lora is not None:
                network = put_factors_beside(copy.deepcopy(network), tuning.lora)
            pace_of(tuning, network).check(network)
        except InputError as error:
            self.problems.append(Problem(path, str(error)))

    def replace(self, stage: Distill, replacing: Replacing, path: KeyPath) -> None:
        """See that the student's blocks can stand in for the teacher's."""
        student, teacher = (self.models.get(name) for name in (stage.name, stage_of(str(stage.teacher))))
        if student is None or teacher is None or not self.is_real:
            return
        try:
            distiller = Distiller(
                copy.deepcopy(student), None, self.task.supervised, example=self._example, task=self.task
            )
            replace_blocks(distiller, copy.deepcopy(teacher), replacing, example=self._example)
        except InputError as error:
            self.problems.append(Problem(path, str(error)))

    def chunk(self, stage: Train | Distill, path: KeyPath) -> None:
        """See that the network's logits can be computed a few positions at a time."""
        student = self.models.get(stage.name)
        if student is None or not self.is_real:
            return
        try:
            chunk = stage.training.head_chunk
            Distiller(student, None, self.task.supervised, example=self._example, task=self.task, head_chunk=chunk)
        except InputError as error:
            self.problems.append(Problem(path, str(error)))

    def cohort(self, stage: Mutual, path: KeyPath) -> None:
        """Build all students of the stage, and try every term between the first two."""
        for student, spec in stage.models.items():
            self.build(f"{stage.name}/{student}", spec, (*path, "models", student))
        names = [f"{stage.name}/{student}" for student in stage.models]
        if not set(names) <= set(self.models):
            return
        learner, peer = (self.models[name] for name in names[:2])
        for number, term in enumerate(stage.objective):
            self._try(learner, peer if term.needs_teacher else None, term, (*path, "objective", number))

    def begin(self, name: str, start: Start | str, path: KeyPath) -> None:
        network, other = self.models.get(name), self.models.get(stage_of(*start_reads(start)))
        if network is None or other is None:
            return
        try:
            if isinstance(start, Start):
                start.transfer(network, other, example=self._example, task=self.task)
            else:
                check_same_network(network, other)
        except InputError as error:
            self.problems.append(Problem(path, str(error)))

    def reuse_head(self, stage: Distill, path: KeyPath) -> None:
        (asked,) = teacher_names(stage.teacher)
        student, teacher = self.models.get(stage.name), self.models.get(stage_of(asked))
        if student is None or teacher is None:
            return
        try:
            reuse_head(student, teacher, example=self._example, task=self.task)
        except InputError as error:
            self.problems.append(Problem(path, str(error)))
            del self.models[stage.name]  # what its terms are about is not there

    @property
    def _example(self) -> Batch:
        if self.task.answers != "classes":
            return Batch(self.inputs, torch.full((2, max(1, len(self.classes))), float("nan")))
        positions = self.task.predicted(self.inputs).shape if isinstance(self.task, LanguageModel) else (2,)
        return Batch(self.inputs, torch.full(positions, IGNORE_INDEX))

    def keep(self, stage: Record, path: KeyPath) -> None:
        """See that what the stage keeps is there, and have a teacher that answers as its recording will."""
        teacher = self._teacher(stage.teacher, stage.combine)
        if teacher is None:
            return
        found: list[Problem] = []
        if isinstance(teacher, ModuleTeacher):
            for layer in stage.keep.layers:
                problems = unreadable(teacher.module, (layer,), "teacher")
                found += [Problem((*path, "layers", layer), problem) for problem in problems]
        if self.is_real and not found:
            try:
                stage.keep.check(teacher.observe(self._example, tuple(stage.keep.layers)))
            except InputError as error:
                found.append(Problem((*path, "top" if str(error).startswith("top:") else "layers"), str(error)))
        self.problems += found
        if not found:
            self.recordings[stage.name] = _AsRecorded(teacher, stage.keep)

    def _teacher(self, teaching: Teaching | None, combine: Combine) -> Teacher | None:
        """Who teaches, with random weights; None where that is not known here."""
        members: dict[str, Teacher] = dict(self.recordings)
        for name in teacher_names(teaching):
            if (network := self.models.get(stage_of(name))) is not None:
                members[name] = ModuleTeacher(network, task=self.task)
            if name not in members:
                return None
        if not teacher_names(teaching):
            return None
        teacher = teacher_of(teaching, members, combine=combine)
        return None if isinstance(teacher, Average) else teacher

    def shrink(self, stage: Prune | Scale, path: KeyPath) -> None:
        """Make the network smaller as it is, with random weights, so that later stages find it in its new size."""
        network = self.models.get(stage.name)
        if network is None or not self.is_real:
            return
        try:
            self.models[stage.name] = stage.tried(network, self._example, self.task)
        except InputError as error:
            del self.models[stage.name]
            key = "target" if isinstance(error, UnmetTargetError) else "model"
            key = "keep" if "the network has no layer" in str(error) else key
            key = "importance" if isinstance(stage, Prune) and str(error).startswith(stage.importance) else key
            key = "depth" if str(error).startswith("depth") else key
            self.problems.append(Problem((*path, key), str(error)))

    def recover(self, stage: Compressing, recovery: Recovery, path: KeyPath) -> None:
        """Try every term of a recovery that reads layers."""
        student, teacher = self.models.get(stage.name), self._teacher(recovery.teacher or stage.model, "mean")
        if student is None or teacher is None:
            return
        for number, term in enumerate(recovery.objective):
            if term.wants_pairs or term.student_taps or term.teacher_taps:
                self._try(copy.deepcopy(student), teacher, term, (*path, number))

    def generate(self, path: KeyPath) -> None:
        try:
            image_shape(self.inputs)
        except InputError as error:
            self.problems.append(Problem(path, str(error)))

    def quantize(self, stage: Quantize, path: KeyPath) -> None:
        """See that the stage's network can be quantized, and what it is trained with."""
        network = self.models.get(stage.name)
        if network is None:
            return
        try:
            check_quantizable(network, stage.keep)
        except InputError as error:
            self.problems += [Problem((*path, "keep"), line) for line in str(error).splitlines()]
        if stage.recovery is not None:
            self.recover(stage, stage.recovery, (*path, "recovery", "objective"))

    def join(self, stage: Distill | DataFree, term: Method, path: KeyPath) -> None:
        reads_layers = term.wants_pairs or term.student_taps or term.teacher_taps
        student = self.models.get(stage.name)
        if not reads_layers or student is None:
            return
        if isinstance(stage.teacher, Average):
            self._try(student, stage.teacher.of(student, self.task), term, path)
            return
        teacher = self._teacher(stage.teacher, _combine(stage))
        if teacher is not None or stage.teacher is None:
            self._try(student, teacher, term, path)

    def _try(self, student: nn.Module, teacher: nn.Module | Teacher | None, term: Method, path: KeyPath) -> None:
        """Join two networks by one term."""
        try:
            Distiller(student, teacher, term, example=self._example, task=self.task)
        except InputError as error:
            self.problems += [Problem((*path, *_blamed(term, line)), line) for line in str(error).splitlines()]


@dataclass(frozen=True)
class _AsRecorded:
    """A teacher whose answers have been kept and read again."""

    teacher: Teacher
    storage: Storage

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> Knowledge:
        answer = self.teacher.observe(batch, tuple(self.storage.layers))
        classes = answer.logits.shape[-1]
        return self.storage.decode(self.storage.encode(answer), classes=classes, layers=taps)


def _combine(stage: Distill | DataFree) -> Combine:
    return stage.combine if isinstance(stage, Distill) else "mean"


def _built(spec: ModelSpec, *, classes: int, inputs: Any) -> nn.Module:
    if isinstance(spec, ArtifactModel):
        return load_artifact(spec.path).module
    return build_architecture(spec, classes=classes, inputs=inputs, pretrained=False)


def _blamed(term: Method, message: str) -> Iterator[str]:
    """The key of a term whose layer a message is about, if it is about one."""
    for name in type(term).model_fields:
        value = getattr(term, name)
        side = message.split(" ", 1)[0]
        for layer in map(layer_of, (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ()):
            if message.startswith(f"{side} has no layer {layer!r}") and name.startswith(side):
                yield name
                return


def _samples(recipe: Recipe) -> tuple[Any, tuple[str, ...], bool]:
    """Two inputs, the classes, and whether both are real."""
    spec = recipe.data
    if spec.source == "sklearn/digits" or local_path(spec.source) is not None:
        data = load_data(spec, task=recipe.task)
        inputs = next(iter(Loader(data.train, batch_size=2, shuffle=False))).inputs
        return inputs, data.classes, True
    if spec.tokens is not None:
        names = ("0", "1") if isinstance(spec.tokens, Tokenizer) else open_tokens(spec.tokens).names
        tokens = torch.zeros(2, spec.window or WINDOW, dtype=torch.int64)
        if isinstance(recipe.task, SequenceToSequence):
            return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), DECODED: tokens}, names, False
        return tokens, names, False
    height, width = spec.size or USUAL_SIZE
    return torch.zeros(2, spec.channels or 3, height, width), spec.classes or tuple(map(str, range(10))), False
