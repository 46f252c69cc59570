"""Jobs for two processes that gather rows."""

import torch

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
