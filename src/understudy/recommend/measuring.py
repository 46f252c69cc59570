"""What candidates really cost on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from understudy.errors import InputError
from understudy.measure.cost import Cost, cost
from understudy.measure.latency import compare_latency, latency
from understudy.recommend.candidates import Candidate
from understudy.sources.forward import resized
from understudy.targets import Limit

TEACHER = "teacher"

_GLANCE = 0.01
"""Seconds of a first look at a candidate's latency."""
_BUILDING_SHARE = 0.6
"""Of the whole time: for building, counting and a first look."""
_LONGEST = 0.3
"""Seconds for which one model is timed in the end."""
_ROUGH = 1.5
"""How far above a limit the first look may be, for a candidate to be timed with the others."""


@dataclass(frozen=True)
class Option:
    """A network that was measured.

    Attributes:
        name: in a few words.
        model: what a recipe writes under ``model``; None for a teacher that is pruned.
        channels: the share of channels that a pruned teacher keeps.
        top1: published accuracy on ImageNet in percent, where there is one.
        same_family: whether it is built like the teacher.
        parameters: how many.
        macs: multiply-accumulates of one sample.
        size_bytes: on disk.
        latency_ms: the median of single calls.
        excess: how many times above the tightest limit it is; 1 or less is within.
        why: for whom it is, in one line.
    """

    name: str
    model: Mapping[str, Any] | None
    channels: float | None
    top1: float | None
    same_family: bool
    parameters: int
    macs: int
    size_bytes: int
    latency_ms: float
    excess: float
    why: str = ""

    @property
    def within(self) -> bool:
        """Whether it meets the whole target."""
        return self.excess <= 1.0

    @property
    def is_copy(self) -> bool:
        """Whether it comes from the teacher itself."""
        return self.top1 is None and self.name != TEACHER

    def cost_in(self, measure: str) -> float:
        """One of its costs, as a :class:`~understudy.targets.Limit` names it."""
        costs = {
            "latency": self.latency_ms,
            "params": self.parameters,
            "bytes": self.size_bytes,
            "macs": self.macs,
        }
        return costs[measure]


@dataclass(frozen=True)
class Measured:
    """All that was measured.

    Attributes:
        teacher: as an option.
        options: the candidates that were timed with it, in no order.
        failed: why candidates could not be built, by name.
        unreached: how many candidates the time did not suffice for.
        conditions: of the timing, in words.
    """

    teacher: Option
    options: tuple[Option, ...]
    failed: dict[str, str]
    unreached: int
    conditions: str


def option_of(candidate: Candidate, cost: Cost, latency_ms: float, limits: Sequence[Limit]) -> Option:
    """What was measured of a candidate.

    Args:
        candidate: what was built.
        cost: of it.
        latency_ms: of it.
        limits: what it may cost.
    """
    made = Option(
        name=candidate.name,
        model=candidate.model,
        channels=candidate.channels,
        top1=candidate.top1,
        same_family=candidate.same_family,
        parameters=cost.parameters,
        macs=cost.macs,
        size_bytes=cost.size_bytes,
        latency_ms=latency_ms,
        excess=0.0,
    )
    return replace(made, excess=max((limit.excess(made.cost_in(limit.measure)) for limit in limits), default=0.0))


def measured(
    teacher: nn.Module,
    candidates: Sequence[Candidate],
    *,
    inputs: Any,
    limits: Sequence[Limit],
    deadline: float,
    most: int,
) -> Measured:
    """Build candidates as long as there is time, then time the best of them in turns with the teacher.

    Args:
        teacher: the network.
        candidates: the most promising ones first.
        inputs: an example batch's inputs.
        limits: what a student may cost.
        deadline: by ``time.monotonic()``, when everything has to be done.
        most: how many candidates are timed together at the most.

    Raises:
        InputError: when the teacher cannot be called.
    """
    begin = time.monotonic()
    inputs = resized(inputs, 1)
    whole = cost(teacher, inputs)
    stop = begin + _BUILDING_SHARE * (deadline - begin)
    built: list[tuple[Candidate, nn.Module, Option]] = []
    failed: dict[str, str] = {}
    unreached = 0
    for number, candidate in enumerate(candidates):
        if time.monotonic() > stop:
            unreached = len(candidates) - number
            break
        try:
            network = candidate.build()
        except InputError as error:
            failed[candidate.name] = str(error).partition("\n")[0]
            continue
        costs = cost(network, inputs)
        if costs.macs >= whole.macs and costs.parameters >= whole.parameters:
            continue
        glance = latency(network, inputs, seconds=_GLANCE).median_ms
        built.append((candidate, network, option_of(candidate, costs, glance, limits)))
        built = _still_wanted(built, most)
    seconds = min(_LONGEST, max(2 * _GLANCE, 0.5 * (deadline - time.monotonic()) / (len(built) + 1)))
    timed = compare_latency(
        [(TEACHER, teacher), *((candidate.name, network) for candidate, network, _ in built)], inputs, seconds=seconds
    )
    own = timed[TEACHER]
    return Measured(
        teacher=option_of(Candidate(TEACHER, lambda: teacher), whole, own.median_ms, limits),
        options=tuple(
            option_of(
                candidate,
                Cost(rough.parameters, rough.macs, rough.size_bytes),
                timed[candidate.name].median_ms,
                limits,
            )
            for candidate, _, rough in built
        ),
        failed=failed,
        unreached=unreached,
        conditions=f"batch {own.batch}, {own.threads} threads, {own.runtime}",
    )


def _still_wanted(
    built: list[tuple[Candidate, nn.Module, Option]], most: int
) -> list[tuple[Candidate, nn.Module, Option]]:
    """Those that may be within the limits, the first ones of each kind, and the nearest of the others."""
    near = [each for each in built if each[2].excess <= _ROUGH]
    far = sorted((each for each in built if each[2].excess > _ROUGH), key=lambda each: each[2].excess)
    copies, library = ([each for each in near if each[0].is_copy is kind] for kind in (True, False))
    return [*copies[:most], *library[:most], *far[: max(1, most // 4)]]
