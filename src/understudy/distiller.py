"""Student, teacher and objective in one plain module: call it with a batch, get a loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError
from understudy.knowledge import Knowledge, Shapes
from understudy.objective import Method, Objective
from understudy.taps import Taps, unknown_layer, unwrapped
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
    ``train()``, ``state_dict()``, ``parameters()`` never reach it.

    Args:
        student: the network to train.
        teacher: a network, anything with ``observe(batch, taps)``, or None for training without a teacher.
        objective: one method, a sum of methods, or a list of them.
        example: one batch as the loader yields it. Student and teacher see it once, in eval mode, to check
            layers, shapes and classes before anything is trained; no weight or buffer changes.
        task: how batches and models are read; classification when not given.

    Raises:
        InputError: naming every layer that does not exist and every pair of shapes that does not fit.
    """

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
        if isinstance(teacher, nn.Module):
            if teacher is student:
                raise InputError("teacher and student are the same module; expected two networks")
            teacher = ModuleTeacher(teacher, task=self.task)
        self.student = student
        self.teacher = teacher
        self._teacher_taps = objective.teacher_taps
        _check_layers(student, teacher, objective)
        self._taps = Taps(student, objective.student_taps)
        self.objective = objective.build(self._try(self.task.batch(example), objective))

    def forward(self, batch: Any, *, progress: float | None = None) -> Step:
        """The loss of one batch.

        Args:
            batch: what the loader yields, or a :class:`Batch`, on the student's device.
            progress: how far the training is, 0 to 1; only scheduled weights need it.
        """
        batch = self.task.batch(batch)
        teacher = self.teacher.observe(batch, self._teacher_taps) if self.teacher is not None else None
        student = self._observe(batch)
        loss, terms = self.objective(student, teacher, batch, progress=progress)
        return Step(loss=loss, terms=terms, student=student, teacher=teacher)

    def _observe(self, batch: Batch) -> Knowledge:
        with self._taps.reading() as features:
            knowledge = self.task.observe(self.student, batch)
        return Knowledge(logits=knowledge.logits, features=features, mask=knowledge.mask)

    def _try(self, batch: Batch, objective: Objective) -> Shapes:
        """Run both networks once on the example and compare what they give."""
        first = next(self.student.parameters(), None)
        if first is not None:
            batch = batch.to(first.device)
            if isinstance(self.teacher, ModuleTeacher):
                self.teacher.to(first.device)
        was_training = {module: module.training for module in self.student.modules()}
        self.student.eval()
        try:
            student = self._observe(batch)
        finally:
            for module, training in was_training.items():
                module.training = training
        teacher = self.teacher.observe(batch, objective.teacher_taps) if self.teacher is not None else None
        _check_gradients(student)
        if teacher is not None and teacher.logits.shape[-1] != student.logits.shape[-1]:
            raise InputError(
                f"the teacher has {teacher.logits.shape[-1]} classes and the student {student.logits.shape[-1]}; "
                "expected the same classes in the same order. Give the student a head of the teacher's size, or "
                "fine-tune the teacher on the student's classes first"
            )
        return Shapes.of(student, teacher)


def _check_layers(student: nn.Module, teacher: Teacher | None, objective: Objective) -> None:
    """Name all the layers that are missing, on both sides, at once."""
    sides = [(student, objective.student_taps, "student")]
    if isinstance(teacher, ModuleTeacher):
        sides.append((teacher.module, objective.teacher_taps, "teacher"))
    problems = []
    for model, taps, whose in sides:
        layers = dict(unwrapped(model).named_modules())
        problems += [unknown_layer(tap, layers, whose) for tap in taps if tap.partition(":")[0] not in layers]
    if problems:
        raise InputError("\n".join(problems))


def _check_gradients(student: Knowledge) -> None:
    for path, feature in student.features.items():
        if torch.is_grad_enabled() and student.logits.requires_grad and not feature.requires_grad:
            raise InputError(
                f"student layer {path!r} gives a feature without a gradient, so a loss on it would train nothing. "
                "It is frozen, or inside a reentrant activation checkpoint: use checkpoint(..., use_reentrant=False)"
            )
