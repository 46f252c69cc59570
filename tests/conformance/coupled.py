"""Jobs for two processes that gather rows."""

import torch
from torch import nn

from conformance.case import Case
from understudy import Distiller, Method, RelationalDistance
from understudy.doctor.balance import term_balance
from understudy.gathering import alone, gathered


def rows_and_gradients(rank: int) -> tuple[list, list]:
    own = (torch.arange(3.0) if rank == 0 else torch.tensor([10.0]))[:, None] + torch.tensor([0.0, 0.5])
    own.requires_grad_()
    rows = gathered(own)
    (rows * torch.arange(1.0, 5.0)[:, None]).sum().backward()
    return rows.tolist(), own.grad.tolist()


def nothing_from_the_second(rank: int) -> list:
    return gathered(torch.tensor([[1.0], [2.0]]) if rank == 0 else torch.zeros(0, 1)).tolist()


def alone_in_the_first(rank: int) -> list | None:
    if rank == 1:
        return None
    with alone():
        return gathered(torch.zeros(1, 1)).tolist()


def examined_by_the_first(rank: int) -> list | None:
    """The second process has no batch to look at, as at the end of an epoch that does not divide."""
    if rank == 1:
        return None
    student, teacher = (nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3)) for _ in range(2))
    distiller = Distiller(student, teacher, RelationalDistance(), example=torch.randn(8, 4))
    return sorted(term_balance(distiller, torch.randn(8, 4)))


def buffers_after_a_step(rank: int, method: Method, case: Case) -> dict[str, list]:
    """What a term remembers after a step, of which the first process sees the first three samples."""
    torch.manual_seed(0)
    term = method.build(case.shapes).to(case.student.logits.dtype).train()
    part = case.select(range(3) if rank == 0 else range(3, len(case.batch)))
    term(part.student, part.teacher, part.batch)
    return {name: buffer.tolist() for name, buffer in term.named_buffers()}
