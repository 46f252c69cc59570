"""One input of a method: what a student showed, what a teacher answered, and the batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
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
    parameters: frozenset[str] = frozenset()
    """Which features are parameters of the networks, without a row per sample."""

    @property
    def shapes(self) -> Shapes:
        return Shapes.of(self.student, self.teacher)

    @property
    def positions(self) -> torch.Size:
        return self.student.logits.shape[:-1]

    def each(self, change: Callable[[Tensor], Tensor], *, without: Collection[str] = ()) -> Case:
        """Every tensor that has a row per sample, and every parameter, changed."""
        batch = replace(
            self.batch,
            inputs=change(self.batch.inputs),
            targets=None if self.batch.targets is None else change(self.batch.targets),
            mask=None if self.batch.mask is None else change(self.batch.mask),
            label_pairs=None if self.batch.label_pairs is None else change(self.batch.label_pairs),
            shares=None if self.batch.shares is None else change(self.batch.shares),
        )
        student, teacher = (_each(side, change, without) for side in (self.student, self.teacher))
        return replace(self, student=student, teacher=teacher, batch=batch)

    def select(self, rows: Sequence[int]) -> Case:
        return self.each(lambda tensor: tensor[list(rows)], without=self.parameters)

    def to(self, dtype: torch.dtype) -> Case:
        return self.each(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)

    def masked(self, mask: Tensor) -> Case:
        student, teacher = replace(self.student, mask=mask), replace(self.teacher, mask=mask)
        return replace(self, student=student, teacher=teacher, batch=replace(self.batch, mask=mask))

    def labelled(self, keep: Tensor) -> Case:
        """Only the positions in `keep` have a label."""
        assert self.batch.targets is not None
        targets, pairs = self.batch.targets, self.batch.label_pairs
        if targets.is_floating_point():
            targets = targets.masked_fill(~keep[..., None], float("nan"))
        else:
            targets = targets.masked_fill(~keep, IGNORE_INDEX)
        if pairs is not None:
            pairs = torch.stack([pairs[..., 0], pairs[..., 1].masked_fill(~keep, IGNORE_INDEX)], -1)
        return replace(self, batch=replace(self.batch, targets=targets, label_pairs=pairs))

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


def _each(knowledge: Knowledge, change: Callable[[Tensor], Tensor], without: Collection[str]) -> Knowledge:
    return Knowledge(
        logits=change(knowledge.logits),
        features={p: f if p in without else change(f) for p, f in knowledge.features.items()},
        mask=None if knowledge.mask is None else change(knowledge.mask),
        tokens=None if knowledge.tokens is None else change(knowledge.tokens),
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


def numbers_case(seed: int, count: int, positions: tuple[int, ...] = ()) -> Case:
    """The same with true numbers in place of classes, as many as there are logits."""
    case, generator = logits_case(seed, count, positions), torch.Generator().manual_seed(300 + seed)
    targets = 2.0 * torch.randn(case.student.logits.shape, generator=generator, dtype=torch.float64)
    return replace(case, batch=replace(case.batch, targets=targets))


def mixed_case(seed: int, count: int, positions: tuple[int, ...] = ()) -> Case:
    """The same, each sample mixed of two that are labelled."""
    case, generator = logits_case(seed, count, positions), torch.Generator().manual_seed(200 + seed)
    pairs = torch.randint(CLASSES, (*case.positions, 2), generator=generator)
    shares = torch.rand(case.positions, generator=generator, dtype=torch.float64)
    targets = torch.full(case.positions, IGNORE_INDEX)
    return replace(case, batch=replace(case.batch, targets=targets, label_pairs=pairs, shares=shares))


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
