"""Networks from which more and more is taken out, until one costs no more than it may."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import nn

from understudy.compress.following import pruned_copy
from understudy.compress.structure import Part
from understudy.compress.target import Target
from understudy.measure.cost import macs
from understudy.tasks.task import Task

Scope = Literal["global", "layer"]
Measure = Callable[[nn.Module], float]
"""How long a network takes for the example, in milliseconds."""


class Trials:
    """Networks with more and more taken out, and what they cost."""

    def __init__(
        self,
        network: nn.Module,
        inputs: Any,
        task: Task,
        parts: Sequence[Part],
        order: Sequence[tuple[int, int]],
        target: Target,
        measure: Measure,
        multiple: int,
    ) -> None:
        self._network, self._inputs, self._task = network, inputs, task
        self._parts, self._order, self._multiple = parts, order, multiple
        self._target, self._measure = target, measure
        self._values: dict[int, float] = {}
        self._last: tuple[int, nn.Module] | None = None
        self.most, self._total = len(order), sum(len(part.bundles) for part in parts)
        self.whole = self.value(0)
        self.bound = target.value if target.latency_ms is not None else target.value * self.whole
        if target.channels is not None:
            self.bound += 0.5 / self._total  # a count is as close as it can be

    def smallest(self, tolerance: float) -> int:
        """The smallest number of bundles to take out for the target; all that can be, where it cannot be met."""
        if self._target.channels is not None:
            return min(self.most, round((1 - self._target.channels) * self._total))
        if self.whole <= self.bound:
            return 0
        low, high = 0, self.most
        if self.value(high) > self.bound:
            return high
        while high - low > 1 and self.value(high) < self.bound * (1 - tolerance):
            middle = (low + high) // 2
            if self.value(middle) > self.bound:
                low = middle
            else:
                high = middle
        return high

    def value(self, count: int) -> float:
        """What the target is about, with so many bundles taken out."""
        if self._target.channels is not None:
            return 1 - count / self._total
        if count not in self._values:
            network = self.network(count)
            if self._target.is_time:
                self._values[count] = self._measure(network)
            elif self._target.macs is not None:
                self._values[count] = float(macs(network, self._inputs))
            else:
                self._values[count] = float(sum(parameter.numel() for parameter in network.parameters()))
        return self._values[count]

    def network(self, count: int) -> nn.Module:
        """A copy without so many bundles."""
        if self._last is None or self._last[0] != count:
            removed = self.removed(count)
            found = pruned_copy(self._network, self._inputs, self._task, self._parts, removed)
            self._last = count, found
        return self._last[1]

    def removed(self, count: int) -> list[list[int]]:
        """For each part the numbers of the bundles among the ``count`` least important ones of all."""
        removed: list[list[int]] = [[] for _ in self._parts]
        for part, bundle in self._order[:count]:
            removed[part].append(bundle)
        for part, bundles in zip(self._parts, removed, strict=True):
            size = len(part.bundles[0])
            if part.heads is None and (kept := (len(part.bundles) - len(bundles)) * size) % self._multiple:
                step = self._multiple // math.gcd(self._multiple, size)  # bundles that keep the width a multiple
                missing = -(kept // size) % step
                del bundles[max(0, len(bundles) - missing) :]
        return removed


def order_of(parts: Sequence[Part], scope: Scope, least: float) -> list[tuple[int, int]]:
    """(part, bundle) of all that can be taken out, the least important first; heads are compared with heads alone."""
    ranked = [part.importance.argsort(stable=True).tolist() for part in parts]
    spare = [total - max(1, math.ceil(least * total)) for total in map(len, ranked)]
    places: list[tuple[float, int, int]] = []
    if scope == "layer":
        for number, bundles in enumerate(ranked):
            places += [((rank + 1) / len(bundles), number, bundles[rank]) for rank in range(spare[number])]
        return [(number, bundle) for _, number, bundle in sorted(places)]
    for are_heads in (True, False):
        pool = sorted(
            (float(part.importance[bundle]), number, bundle)
            for number, part in enumerate(parts)
            if (part.heads is not None) is are_heads
            for bundle in ranked[number][: spare[number]]
        )
        places += [(rank / len(pool), number, bundle) for rank, (_, number, bundle) in enumerate(pool, 1)]
    return [(number, bundle) for _, number, bundle in sorted(places)]
