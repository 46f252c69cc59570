"""One input of a method: what a student showed, what a teacher answered, and the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from understudy import IGNORE_INDEX, Batch, Knowledge
from understudy.knowledge import Shapes

CLASSES = 4


@dataclass(frozen=True)
class Case:
    student: Knowledge
    teacher: Knowledge
    batch: Batch

    @property
    def shapes(self) -> Shapes:
        return Shapes.of(self.student, self.teacher)

    @property
    def positions(self) -> torch.Size:
        return self.student.logits.shape[:-1]

    def each(self, change: Callable[[Tensor], Tensor]) -> Case:
        """Every tensor that has a row per sample, changed."""
        batch = replace(
            self.batch,
            inputs=change(self.batch.inputs),
            targets=None if self.batch.targets is None else change(self.batch.targets),
            mask=None if self.batch.mask is None else change(self.batch.mask),
        )
        return Case(_each(self.student, change), _each(self.teacher, change), batch)

    def select(self, rows: Sequence[int]) -> Case:
        return self.each(lambda tensor: tensor[list(rows)])

    def to(self, dtype: torch.dtype) -> Case:
        return self.each(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)

    def masked(self, mask: Tensor) -> Case:
        return Case(replace(self.student, mask=mask), replace(self.teacher, mask=mask), replace(self.batch, mask=mask))

    def labelled(self, keep: Tensor) -> Case:
        """Only the positions in `keep` have a label."""
        assert self.batch.targets is not None
        targets = self.batch.targets.masked_fill(~keep, IGNORE_INDEX)
        return replace(self, batch=replace(self.batch, targets=targets))

    def tensors(self) -> list[Tensor]:
        """What the student's gradient goes through: logits, then features."""
        return [self.student.logits, *self.student.features.values()]

    def with_tensors(self, tensors: Sequence[Tensor]) -> Case:
        logits, *features = tensors
        named = dict(zip(self.student.features, features, strict=True))
        return replace(self, student=replace(self.student, logits=logits, features=named))

    def leaves(self) -> Case:
        """The same with student tensors that collect gradients."""
        return self.with_tensors([tensor.detach().clone().requires_grad_() for tensor in self.tensors()])


def _each(knowledge: Knowledge, change: Callable[[Tensor], Tensor]) -> Knowledge:
    return Knowledge(
        logits=change(knowledge.logits),
        features={path: change(feature) for path, feature in knowledge.features.items()},
        mask=None if knowledge.mask is None else change(knowledge.mask),
    )


def logits_case(seed: int, count: int, positions: tuple[int, ...] = ()) -> Case:
    """Random logits of both, every position labelled, in float64."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, *positions, CLASSES)
    student, teacher = (2.0 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    targets = torch.randint(CLASSES, shape[:-1], generator=generator)
    return Case(
        student=Knowledge(logits=student),
        teacher=Knowledge(logits=teacher),
        batch=Batch(inputs=torch.zeros(count, 1, dtype=torch.float64), targets=targets),
    )


def features_case(
    seed: int, count: int, positions: tuple[int, ...], *, student: tuple[int, ...], teacher: tuple[int, ...]
) -> Case:
    """The same with one random feature each, "narrow" of the student and "wide" of the teacher.

    `student` and `teacher` are the features' shapes after the batch and the positions.
    """
    case = logits_case(seed, count, positions)
    generator = torch.Generator().manual_seed(100 + seed)
    narrow, wide = (
        torch.randn((count, *positions, *shape), generator=generator, dtype=torch.float64)
        for shape in (student, teacher)
    )
    return replace(
        case,
        student=replace(case.student, features={"narrow": narrow}),
        teacher=replace(case.teacher, features={"wide": wide}),
    )


def counted_rows(case: Case) -> tuple[list, list]:
    """The features of the positions that count, student's and teacher's, as nested lists with one entry each."""
    counts = torch.ones(case.positions, dtype=torch.bool) if case.batch.mask is None else case.batch.mask
    return case.student.features["narrow"][counts].tolist(), case.teacher.features["wide"][counts].tolist()
