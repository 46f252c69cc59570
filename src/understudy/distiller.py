"""Student, teacher and objective in one plain module: call it with a batch, get a loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError, listing
from understudy.knowledge import Knowledge, LayerPairs, Shapes
from understudy.objective import BuiltObjective, Method, Objective
from understudy.pairing import Anatomy, anatomy, pair_layers
from understudy.taps import Taps, layer_of, unknown_layer, unwrapped
from understudy.tasks.classification import Classification
from understudy.tasks.task import Task
from understudy.teachers.module import ModuleTeacher
from understudy.teachers.teacher import Teacher


@dataclass(frozen=True, slots=True)
class Step:
    """What one forward pass of a distiller gives.

    Attributes:
        loss: the weighted sum of the objective, a scalar to call ``backward()`` on.
        terms: each term's unweighted value by its label, detached.
        student: what the student showed, with gradients.
        teacher: what the teacher answered; None when there is no teacher.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    student: Knowledge
    teacher: Knowledge | None


@final
class Distiller(nn.Module):
    """A student that learns from a teacher. It runs in any training loop; there is none inside.

    Its parameters are the student's and those of the objective's own adapters. The teacher is not a submodule:
    ``train()``, ``state_dict()``, ``parameters()`` never reach it. The adapters are built on the student's device,
    in its type.

    Args:
        student: the network to train.
        teacher: a network, anything with ``observe(batch, taps)``, or None for training without a teacher.
        objective: one method, a sum of methods, or a list of them.
        example: one batch as the loader yields it. Student and teacher see it once, in eval mode, to check
            layers, shapes and classes before anything is trained; no weight, buffer or random number changes.
        task: how batches and models are read; classification when not given.

    Raises:
        InputError: naming every layer that does not exist and every pair of shapes that does not fit.
    """

    teacher: Teacher | None

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | Teacher | None,
        objective: Objective | Method | list[Method],
        *,
        example: Any,
        task: Task | None = None,
    ) -> None:
        super().__init__()
        self.task = task or Classification()
        objective = Objective.of(objective)
        if objective.needs_teacher and teacher is None:
            needing = ", ".join(term.label for term in objective.terms if term.needs_teacher)
            raise InputError(f"the objective's terms {needing} need a teacher, got None")
        if isinstance(teacher, nn.Module) and not isinstance(teacher, Teacher):
            teacher = ModuleTeacher(teacher, task=self.task)
        if isinstance(teacher, ModuleTeacher):
            _check_apart(student, teacher.module)
        self.student = student
        # Not an ordinary attribute: a teacher that happens to be a module must not become a submodule.
        self.__dict__["teacher"] = teacher
        if objective.wants_pairs:
            objective = objective.paired(pairs_of(student, teacher, self.task.batch(example), self.task))
        self._teacher_taps = objective.teacher_taps
        _check_layers(student, teacher, objective)
        self._taps = Taps(student, objective.student_taps)
        try:
            self.objective = self._build(objective, self.task.batch(example))
        except InputError:
            self._taps.remove()
            raise

    def forward(self, batch: Any, *, progress: float | None = None) -> Step:
        """The loss of one batch.

        Args:
            batch: what the loader yields, or a :class:`Batch`, on the student's device.
            progress: how far the training is, 0 to 1; only scheduled weights need it.
        """
        batch = self.task.batch(batch)
        teacher = self.teacher.observe(batch, self._teacher_taps) if self.teacher is not None else None
        student = self._observe(batch, self.student)
        _check_gradients(student)
        loss, terms = self.objective(student, teacher, batch, progress=progress)
        return Step(loss=loss, terms=terms, student=student, teacher=teacher)

    def _observe(self, batch: Batch, student: nn.Module) -> Knowledge:
        with self._taps.reading() as features:
            knowledge = self.task.observe(student, batch)
        return Knowledge(logits=knowledge.logits, features=features, mask=knowledge.mask)

    def _build(self, objective: Objective, example: Batch) -> BuiltObjective:
        """Run both networks once on the example, and build the objective for what they give."""
        first = next(self.student.parameters(), None)
        example = _beside(example, self.student)
        with _undisturbed(unwrapped(self.student), example.device):
            student = self._observe(example, unwrapped(self.student))
            teacher = self.teacher.observe(example, self._teacher_taps) if self.teacher is not None else None
        _check_gradients(student)
        if teacher is not None and objective.compares_logits:
            _check_logits(student.logits.shape, teacher.logits.shape)
        built = objective.build(Shapes.of(student, teacher))
        return built if first is None else built.to(first.device, first.dtype if first.is_floating_point() else None)


def pairs_of(student: nn.Module, teacher: nn.Module | Teacher | None, example: Batch, task: Task) -> LayerPairs:
    """Which layers of two networks belong together, seen in one forward pass of each.

    Args:
        student: the student; it is left as it was.
        teacher: a network, or a teacher that runs one.
        example: a batch.
        task: how the networks are called.

    Raises:
        InputError: for a teacher without layers.
    """
    if isinstance(teacher, ModuleTeacher):
        teacher = teacher.module
    if not isinstance(teacher, nn.Module):
        raise InputError(
            f"a {type(teacher).__name__} has no layers to pair with the student's; expected a network as the teacher, "
            "or terms whose student_layer and teacher_layer are named"
        )

    def examined(network: nn.Module) -> Anatomy:
        batch = _beside(example, network)
        with _undisturbed(unwrapped(network), batch.device):
            return anatomy(network, lambda inner: task.observe(inner, batch).logits)

    return pair_layers(examined(student), examined(teacher))


def _beside(example: Batch, network: nn.Module) -> Batch:
    """The example on the network's device."""
    first = next(network.parameters(), None)
    return example if first is None else example.to(first.device)


@contextmanager
def _undisturbed(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Eval mode inside; afterwards every module's own mode and the random numbers are as before."""
    was_training = {module: module.training for module in network.modules()}
    devices = [device] if device.type == "cuda" else []
    network.eval()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for module, training in was_training.items():
            module.training = training


def _check_apart(student: nn.Module, teacher: nn.Module) -> None:
    """Refuse a teacher that would change while the student trains."""
    if unwrapped(teacher) is unwrapped(student):
        raise InputError("teacher and student are the same module; expected two networks")
    trained = {id(parameter) for parameter in student.parameters() if parameter.requires_grad}
    shared = [name for name, parameter in teacher.named_parameters() if id(parameter) in trained]
    if shared:
        raise InputError(
            f"teacher and student share the parameters {listing(shared)}, so that the teacher would change while "
            "the student trains. Give the teacher a copy.deepcopy of them, or freeze them (requires_grad=False)"
        )


def _check_logits(student: torch.Size, teacher: torch.Size) -> None:
    if teacher[-1] != student[-1]:
        raise InputError(
            f"the teacher has {teacher[-1]} classes and the student {student[-1]}; "
            "expected the same classes in the same order. Give the student a head of the teacher's size, or "
            "fine-tune the teacher on the student's classes first"
        )
    if teacher != student:
        raise InputError(
            f"the teacher's logits have the shape {tuple(teacher)} and the student's {tuple(student)}; expected the "
            "same positions. Both must see the same samples, cut into the same tokens or pixels"
        )


def _check_layers(student: nn.Module, teacher: Teacher | None, objective: Objective) -> None:
    """Name all the layers that are missing, on both sides, at once."""
    sides = [(student, objective.student_taps, "student")]
    if isinstance(teacher, ModuleTeacher):
        sides.append((teacher.module, objective.teacher_taps, "teacher"))
    problems = []
    for model, taps, whose in sides:
        layers = dict(unwrapped(model).named_modules())
        missing = dict.fromkeys(layer_of(tap) for tap in taps if layer_of(tap) not in layers)
        problems += [unknown_layer(layer, layers, whose) for layer in missing]
    if problems:
        raise InputError("\n".join(problems))


def _check_gradients(student: Knowledge) -> None:
    """At every step, for nanoseconds: activation checkpointing is often only active in train mode."""
    for path, feature in student.features.items():
        if torch.is_grad_enabled() and student.logits.requires_grad and not feature.requires_grad:
            raise InputError(
                f"student layer {path!r} gives a feature without a gradient, so a loss on it would train nothing. "
                "It is frozen, or inside a reentrant activation checkpoint: use checkpoint(..., use_reentrant=False)"
            )
