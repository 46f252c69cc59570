"""Rows of all processes together, and of past batches, for losses that compare samples with each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor

from understudy.functional.reduction import positive

_ALONE = ContextVar("alone", default=False)


def gathered(rows: Tensor) -> Tensor:
    """The rows of all processes, in the order of the ranks; each process may have another number of them.

    The gradient flows back to the process that a row came from, as the sum over all processes. When every process
    computes the same loss of the gathered rows, and data-parallel training averages the gradients of parameters,
    the result is the gradient of one process with the whole batch. A plain ``all_gather`` has the right value and
    no gradient; a plain ``all_reduce`` has the right value and one too small by the number of processes.

    Args:
        rows: (n, ...), the same trailing shape in every process.

    Returns:
        (n of all processes, ...); ``rows`` itself where there is one process only.
    """
    if process_count() == 1:
        return rows
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(process_count())]
    torch.distributed.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    lengths = [int(count) for count in counts]
    padded = F.pad(rows, (0, 0) * (rows.ndim - 1) + (0, max(lengths) - len(rows)))
    parts = _AllGather.apply(padded.contiguous())
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])


def process_count() -> int:
    """How many processes compare their rows: all that train together, or this one (see ``alone``)."""
    if torch.distributed.is_available() and torch.distributed.is_initialized() and not _ALONE.get():
        return torch.distributed.get_world_size()
    return 1


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process looks at its own rows only: others may have no batch to look at, and would not answer."""
    before = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(before)


class _AllGather(torch.autograd.Function):
    """``all_gather`` with its true gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG004 - autograd's signature
        parts = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, rows)
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004 - autograd's signature
        stacked = torch.stack(gradients)
        torch.distributed.all_reduce(stacked)
        return stacked[torch.distributed.get_rank()]


def together(
    student: Tensor, teacher: Tensor, *, mask: Tensor | None, total: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | float]:
    """The rows of student and teacher that count, of all processes, and the share of the step that they are.

    Args:
        student: (n, ...), one row per position.
        teacher: (n, ...), the same positions.
        mask: bool (n,), which rows count; None means all.
        total: rows that count per micro-batch and process, averaged over the optimizer step; None when this
            batch stands alone.

    Returns:
        Student rows, teacher rows, and the factor for a loss of them: 1 where the batch stands alone; in a step of
        several micro-batches each weighs as much as it has rows. Rows of different micro-batches never meet.
    """
    if mask is not None:
        student, teacher = student[mask], teacher[mask]
    student, teacher = gathered(student), gathered(teacher)
    if total is None:
        return student, teacher, 1.0
    return student, teacher, len(student) / (process_count() * positive(total))


@torch.no_grad()
def remember(place: Tensor, *memories: tuple[Tensor, Tensor]) -> None:
    """Put rows in the places of those that have been there longest; of more rows than places, the last ones.

    Args:
        place: int64 scalar, the place of the oldest row; moved on in place.
        memories: pairs of a memory (size, ...), changed in place, and what comes into it, (n, ...); the same numbers
            of rows in all of them.
    """
    size = len(memories[0][0])
    count = min(len(memories[0][1]), size)
    places = (place + torch.arange(count, device=place.device)) % size
    for memory, rows in memories:
        memory.index_copy_(0, places, rows[len(rows) - count :].to(memory.dtype))
    place.add_(count).remainder_(size)
