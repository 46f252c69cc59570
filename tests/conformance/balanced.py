"""Jobs for two processes that balance the terms of an objective."""

import torch
from torch import nn

from understudy import Balance, CrossEntropy, Distiller, Hint, Objective, RelationalDistance, SoftTargets

COUNT = 12


def setting(balance: Balance) -> tuple[Distiller, list[tuple[torch.Tensor, torch.Tensor]]]:
    """A distiller of three terms, one of which compares samples, and three batches."""
    torch.manual_seed(0)
    student, teacher = (nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, 3)) for width in (4, 7))
    hint = Hint(student_layer="1", teacher_layer="1")
    relation = RelationalDistance(student_layer="1", teacher_layer="1")
    terms = (CrossEntropy(), SoftTargets(weight=0.5), hint, relation)
    batches = [(torch.randn(COUNT, 6), torch.randint(3, (COUNT,))) for _ in range(3)]
    return Distiller(student, teacher, Objective(terms, balance), example=batches[0]), batches


def trained(rank: int | None, balance: Balance) -> tuple[list[dict[str, float]], list[float]]:
    """The weights after each of three steps, and the student's parameters at the end.

    Each of two processes sees its half of every batch; without a rank it is one process that sees all of it.
    """
    distiller, batches = setting(balance)
    model = distiller if rank is None else nn.parallel.DistributedDataParallel(distiller)
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1)
    weights = []
    for inputs, targets in batches:
        mine = slice(None) if rank is None else slice(rank * COUNT // 2, (rank + 1) * COUNT // 2)
        optimizer.zero_grad()
        model((inputs[mine], targets[mine])).loss.backward()
        optimizer.step()
        weights.append(distiller.objective.weights())
    return weights, torch.cat([parameter.flatten() for parameter in distiller.student.parameters()]).tolist()
