"""The recommendation: candidates, measured and sorted, with what is said about them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from understudy.measure.cost import cost
from understudy.measure.latency import latency
from understudy.recommend.candidates import candidates, teacher_error
from understudy.recommend.measuring import Option, measured
from understudy.recommend.promise import by_promise
from understudy.recommend.recipe_lines import recipe_lines
from understudy.recommend.rules import advice, still_to_do
from understudy.sources.architecture import portable
from understudy.sources.forward import resized
from understudy.sources.model_specs import ModelSpec
from understudy.taps import unwrapped
from understudy.targets import Limit

_GLANCE = 0.05


@dataclass(frozen=True)
class Recommendation:
    """Students for a teacher.

    Attributes:
        teacher: what it costs.
        limits: the target.
        options: those within it, the most promising one first.
        outside: those that are not, the nearest one first; what would have to be done beside is in ``why``.
        advice: whole sentences about the first choice.
        recipe: stages to paste for the first choice; empty without one.
        failed: why candidates could not be built, by name.
        too_large: how many architectures of the libraries were left out by what is published of their costs.
        unreached: how many candidates the time did not suffice for.
        conditions: of the timing, in words.
        seconds: how long it took.
    """

    teacher: Option
    limits: tuple[Limit, ...]
    options: tuple[Option, ...]
    outside: tuple[Option, ...]
    advice: tuple[str, ...]
    recipe: str
    failed: dict[str, str]
    too_large: int
    unreached: int
    conditions: str
    seconds: float


def recommend(
    teacher: nn.Module,
    spec: ModelSpec,
    *,
    inputs: Any,
    classes: int,
    limits: Sequence[Limit] = (),
    seconds: float = 60.0,
    most: int = 8,
) -> Recommendation:
    """List students for a teacher: parts of itself, smaller copies, and architectures of timm and torchvision.

    Most architectures are left out by what is published of their parameters and multiplications. The others are built
    with random weights, counted, and timed in turns with the teacher, on this machine and for these inputs. Nothing is
    trained: which student is the best is a promise, by published accuracy and rules of thumb.

    Args:
        teacher: a network, trained or not; it is left as it is.
        spec: where it came from.
        inputs: an example batch's inputs.
        classes: how many classes there are.
        limits: what a student may cost, of :func:`~understudy.targets.parse_target`; none: less than the teacher.
        seconds: how long it may take, roughly; one candidate that is slow to build may exceed it.
        most: how many candidates of a kind are timed together at the most.

    Raises:
        InputError: when the teacher cannot be called.
    """
    begin = time.monotonic()
    network = unwrapped(teacher)
    with torch.random.fork_rng(devices=[]):
        architecture = portable(spec, network)
        whole = cost(network, inputs)
        rate = latency(network, resized(inputs, 1), seconds=_GLANCE).median_ms / max(whole.macs, 1)
        found, too_large = candidates(
            network, architecture, whole, inputs=inputs, classes=classes, limits=limits, rate=rate
        )
        seen = measured(network, found, inputs=inputs, limits=limits, deadline=begin + seconds, most=most)
    ranked = by_promise(list(seen.options), seen.teacher, teacher_error=teacher_error(architecture))
    within = [option for option in ranked if option.within]
    outside = sorted((option for option in ranked if not option.within), key=lambda option: option.excess)
    first = within[0] if within else None
    return Recommendation(
        teacher=seen.teacher,
        limits=tuple(limits),
        options=tuple(within[:most]),
        outside=tuple(replace(option, why=still_to_do(option, limits)) for option in outside[:3]),
        advice=tuple(advice(seen.teacher, first, ranked, limits)),
        recipe=recipe_lines(first) if first is not None else "",
        failed=seen.failed,
        too_large=too_large,
        unreached=seen.unreached,
        conditions=seen.conditions,
        seconds=time.monotonic() - begin,
    )
