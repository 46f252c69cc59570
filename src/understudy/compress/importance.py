"""How much a network needs each of its channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from torch import Tensor, nn

from understudy.batch import Batch
from understudy.distiller import Distiller
from understudy.errors import InputError
from understudy.extras import imported
from understudy.sources.forward import device_of, each_tensor, evaluating
from understudy.tasks.task import Task

Importance = Literal["magnitude", "taylor", "bn_scale", "hessian"]

NEEDS_LABELS: frozenset[Importance] = frozenset({"taylor", "hessian"})
"""Those that look at labelled samples."""


def scores_of(
    importance: Importance, network: nn.Module, task: Task, loader: Iterable[Any] | None
) -> Callable[[Any], Tensor | None]:
    """Torch-Pruning's estimate of how important the channels of a group are, each relative to the group's mean.

    ``magnitude`` is the squared L2 norm of all weights that belong to a channel; ``bn_scale`` the absolute scale
    of its batch normalisation; ``taylor`` the absolute product of weight and gradient, what the loss would change by to
    first order; ``hessian`` the squared weight times the mean squared gradient of single samples, a diagonal second
    order.

    Args:
        importance: which.
        network: the copy that was traced; Taylor and Hessian leave gradients in it.
        task: how batches are read, and the loss.
        loader: labelled batches, for those that look at samples.

    Raises:
        InputError: without labelled samples, or without batch normalisation.

    References:
        Li et al., ICLR 2017 (arXiv:1608.08710); Liu et al., ICCV 2017 (arXiv:1708.06519); Molchanov et al., CVPR 2019
        (arXiv:1906.10771); LeCun et al., NIPS 1989; over coupled layers: Fang et al., CVPR 2023 (arXiv:2301.12900).
    """
    library = imported("torch_pruning", extra="compress", needed_by="structured pruning").importance
    if importance == "magnitude":
        return library.GroupMagnitudeImportance(p=2)
    if importance == "bn_scale":
        if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
            raise InputError(
                f"bn_scale reads batch normalisation, and {type(network).__name__} has none; use magnitude or taylor"
            )
        return library.BNScaleImportance()
    if loader is None:
        raise InputError(f"{importance} looks at labelled samples; give a loader of them, or use magnitude")
    _see(network, task, loader, one_by_one=importance == "hessian")
    return library.GroupTaylorImportance() if importance == "taylor" else library.GroupHessianImportance()


def _see(network: nn.Module, task: Task, loader: Iterable[Any], *, one_by_one: bool) -> None:
    """Leave the mean gradient of all samples in the network, or the mean square of each one's."""
    parameters = list(network.parameters())
    sums = [parameter.detach().clone().zero_() for parameter in parameters]
    samples = 0
    network.zero_grad(set_to_none=True)
    with evaluating(network):
        for raw in loader:
            whole = task.batch(raw).to(device_of(network))
            if whole.targets is None:
                raise InputError("taylor and hessian look at labelled samples; the loader gives inputs without labels")
            for batch in _samples(whole) if one_by_one else (whole,):
                _loss(network, task, batch).backward()
                for parameter, total in zip(parameters, sums, strict=True):
                    if parameter.grad is not None:
                        total.add_(parameter.grad.square() if one_by_one else parameter.grad * len(batch))
                network.zero_grad(set_to_none=True)
                samples += len(batch)
    if not samples:
        raise InputError("taylor and hessian look at labelled samples; the loader gives none")
    for parameter, total in zip(parameters, sums, strict=True):
        parameter.grad = total / samples


def _loss(network: nn.Module, task: Task, batch: Batch) -> Tensor:
    distiller = Distiller(network, None, task.supervised, example=batch, task=task)
    with evaluating(distiller):
        return distiller(batch).loss


def _samples(batch: Batch) -> Iterable[Batch]:
    assert batch.targets is not None
    for index in range(len(batch)):
        inputs = each_tensor(batch.inputs, lambda tensor, index=index: tensor[index : index + 1])
        mask = None if batch.mask is None else batch.mask[index : index + 1]
        yield Batch(inputs=inputs, targets=batch.targets[index : index + 1], mask=mask)
