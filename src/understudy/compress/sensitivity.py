"""How much quality each layer's eight bits cost, and how many layers have to stay in float for a bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from understudy.batch import IGNORE_INDEX, Batch
from understudy.compress.nncf_calls import Activations, Mode, Traced, converted, traced
from understudy.compress.quantization import (
    CALIBRATION,
    QuantizedNetwork,
    calibration,
    check_quantizable,
    check_way,
    quantized,
)
from understudy.errors import InputError
from understudy.measure.quality import agreement, predict, quality
from understudy.taps import unwrapped
from understudy.tasks.task import Task

_SAMPLES = 64
"""Calibration samples that one layer's sensitivity is measured on."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class BoundedNetwork:
    """A quantized network, and what it lost.

    Attributes:
        quantized: the network with the fewest layers in float that keeps the bound; the best one seen, when none does.
        drop: what it loses, in percentage points of the task's metric on the validation data.
        max_drop: what it may lose.
        sensitivities: by layer, most sensitive first, in nats; empty where nothing had to stay in float.
        tried: the drop of everything that was tried, by how many layers stayed in float.
    """

    quantized: QuantizedNetwork
    drop: float
    max_drop: float
    sensitivities: dict[str, float]
    tried: dict[int, float]

    @property
    def holds(self) -> bool:
        """Whether it loses no more than it may."""
        return self.drop <= self.max_drop + _ROUNDING


def sensitivities(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    task: Task,
    samples: int = _SAMPLES,
    mode: Mode = "static",
    keep: Sequence[str] = (),
    activations: Activations = "symmetric",
) -> dict[str, float]:
    r"""How far the answers move when one layer alone is rounded to eight bits.

    .. math:: \frac{1}{N} \sum_i KL(p_i \,\|\, p_i^{(l)})

    where :math:`p` are the probabilities of the float network and :math:`p^{(l)}` those of the network in which only
    the layer *l* is rounded, with the activations that go into it. 0 for a layer that does not matter.

    Args:
        model: see :func:`~understudy.compress.quantize`, as all the others.
        batches: the same.
        task: the same.
        samples: the same.
        mode: the same.
        keep: layers that are not measured.
        activations: the same.

    Returns:
        Nats by layer, most sensitive first.

    Raises:
        InputError: as :func:`~understudy.compress.quantize` does.
    """
    network = unwrapped(model)
    shown, seen = _seen(network, batches, task, samples, keep)
    whole = quantized(network, seen, mode=mode, keep=keep, activations=activations)
    return _sensitivities(seen, shown, whole.layers, task=task, mode=mode, activations=activations)


def quantize_within(
    model: nn.Module,
    batches: Iterable[Any],
    validation: Iterable[Any],
    *,
    task: Task,
    max_drop: float,
    reference: float | None = None,
    samples: int = CALIBRATION,
    mode: Mode = "static",
    keep: Sequence[str] = (),
    activations: Activations = "symmetric",
) -> BoundedNetwork:
    """Quantize as many layers as a bound on quality allows.

    When all layers together lose too much, the most sensitive ones go back to float: one, two, four and so on until
    the bound holds, and then as few as are enough between the last two.

    Args:
        model: see :func:`~understudy.compress.quantize`, as all that is not named here.
        batches: the same.
        validation: labelled batches, read several times.
        task: the same; its headline metric is what counts.
        max_drop: percentage points that may be lost: 0.5 is from 0.912 to 0.907.
        reference: the metric to compare with; that of the model when not given.
        samples: the same.
        mode: the same.
        keep: layers that stay in float in any case.
        activations: the same.

    Raises:
        InputError: as :func:`~understudy.compress.quantize` does, and for validation data without labels.
    """
    network = unwrapped(model)
    best = metric_of(network, validation, task) if reference is None else reference
    shown, seen = _seen(network, batches, task, samples, keep)
    drops: dict[int, float] = {}
    order: dict[str, float] = {}
    latest: dict[int, QuantizedNetwork] = {}  # one, since they are as large as the network

    def with_in_float(count: int) -> QuantizedNetwork:
        if count not in latest:
            latest.clear()
            left = (*keep, *list(order)[:count])
            latest[count] = quantized(network, seen, mode=mode, keep=left, activations=activations)
        return latest[count]

    def drop_with(count: int) -> float:
        if count not in drops:
            drops[count] = 100.0 * (best - metric_of(with_in_float(count).network, validation, task))
        return drops[count]

    chosen = 0
    if drop_with(0) > max_drop + _ROUNDING:
        few = calibration(network, shown, task=task, samples=min(samples, _SAMPLES))
        whole = with_in_float(0).layers
        order |= _sensitivities(traced(network, few), few, whole, task=task, mode=mode, activations=activations)
        chosen = _fewest(drop_with, len(order), max_drop + _ROUNDING)
    return BoundedNetwork(with_in_float(chosen), drops[chosen], max_drop, order, dict(sorted(drops.items())))


def metric_of(network: nn.Module, batches: Iterable[Any], task: Task) -> float:
    """The task's headline metric of a network.

    Raises:
        InputError: when nothing is labelled.
    """
    answers = predict(network, batches, task)
    if bool((answers.targets == IGNORE_INDEX).all()):
        raise InputError(
            f"max_drop is about quality on labelled data, and none of the {len(answers)} samples has a label; label "
            "some, or leave max_drop out"
        )
    return quality(answers, task)[task.metric]


def _fewest(drop_with: Callable[[int], float], most: int, bound: float) -> int:
    """The fewest layers in float with which the bound holds; those with the smallest drop when none are enough."""
    tried = {0: drop_with(0)}
    below, above = 0, 1
    while above <= most:
        tried[above] = drop_with(above)
        if tried[above] <= bound:
            break
        below, above = above, min(2 * above, most) if above < most else most + 1
    else:
        return min(tried, key=lambda count: (tried[count], count))
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if drop_with(middle) <= bound else (middle, above)
    return above


def _seen(
    network: nn.Module, batches: Iterable[Any], task: Task, samples: int, keep: Sequence[str]
) -> tuple[list[Batch], Traced]:
    check_quantizable(network, keep)
    shown = calibration(network, batches, task=task, samples=samples)
    check_way(network, shown, keep=keep)
    return shown, traced(network, shown)


def _sensitivities(
    seen: Traced, shown: list[Batch], layers: Sequence[str], *, task: Task, mode: Mode, activations: Activations
) -> dict[str, float]:
    expected = predict(seen.network, shown, task)
    found = {}
    for layer in layers:
        others = [operation.name for operation in seen.operations if not operation.is_of([layer])]
        alone = converted(seen, mode=mode, leave=others, activations=activations)
        found[layer] = agreement(predict(alone, shown, task), expected)["kl_from_teacher"]
    return dict(sorted(found.items(), key=lambda item: -item[1]))
