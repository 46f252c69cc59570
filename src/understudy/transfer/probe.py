"""What a network knows of other classes without learning anything: a linear classifier on its frozen features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from understudy.batch import IGNORE_INDEX
from understudy.errors import InputError
from understudy.sources.forward import device_of, evaluating
from understudy.tasks.task import Task


def features_of(network: nn.Module, head: str, loader: Iterable[Any], task: Task) -> tuple[Tensor, Tensor]:
    """What the last layer reads of every labelled sample, in eval mode.

    Args:
        network: left as it is.
        head: path of its last layer, an ``nn.Linear`` that reads one vector per sample.
        loader: batches, raw or ready.
        task: how it is called.

    Returns:
        Features (samples, features) float32 and targets (samples,) int64, on the CPU.

    Raises:
        InputError: for another head, or without any labelled sample.
    """
    layer = network.get_submodule(head)
    read: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, given: read.append(given[0].detach()))
    features, targets = [], []
    try:
        with evaluating(network), torch.no_grad():
            for raw in loader:
                batch = task.batch(raw).to(device_of(network))
                read.clear()
                task.observe(network, batch)
                if len(read) != 1 or read[0].ndim != 2 or not isinstance(layer, nn.Linear) or batch.targets is None:
                    raise InputError(
                        f"a probe needs labelled samples and a linear head that reads one vector of each; {head!r} is "
                        f"{type(layer).__name__}, called {len(read)} times"
                    )
                known = batch.targets != IGNORE_INDEX
                features.append(read[0][known].float().cpu())
                targets.append(batch.targets[known].cpu())
    finally:
        handle.remove()
    if not sum(map(len, targets)):
        raise InputError("a probe needs labelled samples, and there are none")
    return torch.cat(features), torch.cat(targets)


def fitted_probe(features: Tensor, targets: Tensor, *, classes: int, penalty: float = 1.0) -> tuple[Tensor, Tensor]:
    r"""Multinomial logistic regression, to its one optimum.

    .. math:: \min_{W, b} \; \sum_i \mathrm{CE}(W \hat x_i + b, y_i) + \tfrac{\lambda}{2} \lVert W \rVert^2

    over features that are standardised (mean 0, deviation 1), as which they are told apart best.

    Args:
        features: (samples, features).
        targets: (samples,) of class indices.
        classes: how many there are.
        penalty: λ.

    Returns:
        Weight (classes, features) and bias (classes,) for the features as they are.
    """
    features = features.double()
    mean, deviation = features.mean(0), features.std(0, correction=0).clamp_min(1e-6)
    standard = (features - mean) / deviation
    weight = torch.zeros(classes, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=500, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        fit = nn.functional.cross_entropy(standard @ weight.T + bias, targets, reduction="sum")
        loss = (fit + penalty / 2 * weight.square().sum()) / len(targets)
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    plain = weight.detach() / deviation
    return plain.float(), (bias.detach() - plain @ mean).float()


def put_probe(network: nn.Module, head: str, loader: Iterable[Any], task: Task) -> None:
    """Give a network's last layer the weights of a probe on its own features; nothing else in it changes.

    Args:
        network: changed in place.
        head: path of its last layer.
        loader: labelled batches.
        task: how it is called.

    Raises:
        InputError: see :func:`features_of`.
    """
    features, targets = features_of(network, head, loader, task)
    layer = network.get_submodule(head)
    weight, bias = fitted_probe(features, targets, classes=layer.get_parameter("weight").shape[0])
    with torch.no_grad():
        layer.get_parameter("weight").copy_(weight)
        if layer._parameters.get("bias") is not None:
            layer.get_parameter("bias").copy_(bias)
