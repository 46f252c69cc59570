"""A method in one process and in two, on the same samples."""

from dataclasses import replace

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from conformance.case import Case
from understudy import Method
from understudy.gathering import alone


class Scaled(nn.Module):
    """A student small enough to reason about: everything it shows is a constant times a parameter."""

    def __init__(self, method: Method, case: Case) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scales = nn.ParameterList(torch.ones_like(tensor[0]) for tensor in case.tensors())
        self.term = method.build(case.shapes).to(case.student.logits.dtype)

    def forward(self, case: Case) -> Tensor:
        shown = case.with_tensors([t * scale for t, scale in zip(case.tensors(), self.scales, strict=True)])
        anchor = sum(scale.sum() * 0.0 for scale in self.scales)  # every parameter takes part
        return self.term(shown.student, shown.teacher, shown.batch) + anchor


def scaled_step(method: Method, case: Case) -> dict[str, Tensor]:
    """Loss and gradients of the whole batch in this process."""
    module = Scaled(method, case)
    loss = module(case)
    loss.backward()
    return {"loss": loss.detach(), **{name: p.grad for name, p in module.named_parameters()}}


def reduced(rank: int, method: Method, case: Case, with_totals: bool) -> dict[str, Tensor]:
    """The same by two processes, each with half of the batch: mean of the losses, gradients as DDP leaves them."""
    half = len(case.batch) // 2
    part = case.select(range(rank * half, (rank + 1) * half))
    if with_totals:
        totals = torch.stack([part.batch.supervised.sum(), part.batch.mask.sum()]).double()
        torch.distributed.all_reduce(totals)
        labelled, valid = totals / 2
        part = replace(part, batch=replace(part.batch, labelled_total=labelled, valid_total=valid))
    module = Scaled(method, part)
    wrapped = DistributedDataParallel(module)  # has to live until after the backward pass, which it hooks into
    loss = wrapped(part)
    loss.backward()
    mean = loss.detach().clone()
    torch.distributed.all_reduce(mean)
    return {"loss": mean / 2, **{name: p.grad for name, p in module.named_parameters()}}


def reduced_without_gathering(rank: int, method: Method, case: Case) -> dict[str, Tensor]:
    """The same, when each process only sees its own rows, as a loss that forgets about the others would."""
    with alone():
        return reduced(rank, method, case, False)


def eager_and_compiled(method: Method, case: Case) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The same step as it is, and as one compiled graph."""
    torch.compiler.reset()
    answers = []
    for compiled in (False, True):
        module = Scaled(method, case)
        loss = torch.compile(module, fullgraph=True)(case) if compiled else module(case)
        loss.backward()
        answers.append({"loss": loss.detach(), **{name: p.grad for name, p in module.named_parameters()}})
    return answers[0], answers[1]
