"""Terms of an objective for a few positions at a time, so that the logits of a whole batch are never held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from understudy.batch import Batch
from understudy.functional.vocabulary import sum_in_chunks
from understudy.knowledge import Knowledge, TopClasses

PartialTerm = Callable[[Knowledge, "Knowledge | None", Batch], tuple[Tensor, Tensor]]
"""Of some positions in a row the part of a term's value, and its gradient to the student's logits."""


def in_chunks(
    terms: Sequence[PartialTerm], weights: Sequence[float], student: Knowledge, teacher: Knowledge | None, batch: Batch
) -> tuple[Tensor, Tensor]:
    """The weighted sum of terms that are means over positions, and the value of each.

    Args:
        terms: each sees positions that count, in a row, without a mask, and divides by the totals of its batch, which
            are those of all positions.
        weights: one for each term.
        student: what it showed, with ``before_head`` in place of logits.
        teacher: what it answered, with logits or ``before_head``.
        batch: the samples.

    Returns:
        The sum, with gradients, and the terms' values, (terms,), detached.
    """
    assert student.before_head is not None
    before = student.before_head
    valid = student.mask
    places = torch.arange(student.logits.shape[:-1].numel(), device=before.hidden.device)
    if valid is not None:
        places = places[valid.flatten()]
    batch = _with_totals(batch, len(places))

    def judged(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        shown = Knowledge(logits=logits)
        answered = None if teacher is None else _teacher_at(teacher, places[rows])
        part = _batch_at(batch, places[rows])
        found = [term(shown, answered, part) for term in terms]
        values = torch.stack([value for value, _ in found])
        first, *rest = (weight * slopes for weight, (_, slopes) in zip(weights, found, strict=True))
        return torch.cat([(values * values.new_tensor(weights)).sum(0, keepdim=True), values]), sum(rest, first)

    sums = sum_in_chunks(before.hidden.flatten(0, -2)[places], head=before.head, judged=judged, chunk=before.chunk)
    return sums[0], sums[1:].detach()


def _with_totals(batch: Batch, valid: int) -> Batch:
    """The batch with the numbers of positions that terms divide by: those of the whole step where it has them."""
    device = batch.device
    of_valid = batch.valid_total
    of_labelled = batch.labelled_total
    if of_valid is None:
        of_valid = torch.tensor(float(valid), device=device)
    if of_labelled is None and batch.targets is not None:
        of_labelled = batch.supervised.sum().float()
    return replace(batch, valid_total=of_valid, labelled_total=of_labelled)


def _batch_at(batch: Batch, places: Tensor) -> Batch:
    """The labels at some positions, in a row."""

    def picked(values: Tensor | None, beyond: int = 0) -> Tensor | None:
        return None if values is None else values.flatten(0, values.ndim - 1 - beyond)[places]

    return replace(
        batch,
        inputs=places,
        targets=picked(batch.targets),
        mask=None,
        ids=None,
        label_pairs=picked(batch.label_pairs, 1),
        shares=picked(batch.shares),
    )


def _teacher_at(teacher: Knowledge, places: Tensor) -> Knowledge:
    """What a teacher answered at some positions, in a row."""
    members = {name: _teacher_at(member, places) for name, member in teacher.members.items()}
    if teacher.before_head is not None:
        hidden = teacher.before_head.hidden.flatten(0, -2)[places]
        return Knowledge(logits=teacher.before_head.head.logits(hidden), members=members)
    top = teacher.top and TopClasses(
        kept=teacher.top.kept.flatten(0, -2)[places],
        tails={temperature: tail.flatten()[places] for temperature, tail in teacher.top.tails.items()},
        classes=teacher.top.classes,
        drawn=teacher.top.drawn,
    )
    return Knowledge(logits=teacher.logits.flatten(0, -2)[places], members=members, top=top)
