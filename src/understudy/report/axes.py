"""Where a value lies on a chart, and which values are written beside its axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LOG_FROM = 4.0
"""Sizes that lie further apart than this factor get a logarithmic axis."""


@dataclass(frozen=True)
class Tick:
    """A value beside an axis: where, and how it reads."""

    at: float
    label: str


@dataclass(frozen=True)
class Axis:
    """A scale from values to pixels.

    Attributes:
        low: value at ``start``.
        high: value at ``end``.
        start: pixel of the lowest value.
        end: pixel of the highest value; below ``start`` for an axis that runs upwards.
        logarithmic: whether equal factors have equal lengths.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high, value = map(self._scaled, (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)

    def ticks(self, label: Callable[[float], str], *, most: int = 6) -> list[Tick]:
        """Round values along the axis, at most about ``most``, with their texts."""
        values = _powers(self.low, self.high, most) if self.logarithmic else _steps(self.low, self.high, most)
        return [Tick(self.at(value), label(value)) for value in values]

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.logarithmic else value


def quality_axis(values: Sequence[float], *, start: float, end: float, most: float | None = None) -> Axis:
    """An axis around values that differ little: it does not begin at zero.

    Args:
        values: at least one.
        start: pixel of the lowest value.
        end: pixel of the highest.
        most: a value that cannot be exceeded (1.0 for shares); the axis ends there at the latest.
    """
    low, high = min(values), max(values)
    margin = (high - low) * 0.12 or abs(high) * 0.02 or 1.0
    top = high + margin if most is None else min(high + margin, most)
    return Axis(low - margin, top if top > low - margin else high + margin, start, end)


def cost_axis(values: Sequence[float], *, start: float, end: float) -> Axis:
    """An axis for sizes and times: from zero, or logarithmic where they differ by more than a factor of four."""
    low, high = min(values), max(values)
    if low > 0 and high / low > LOG_FROM:
        factor = (high / low) ** 0.14
        return Axis(low / factor, high * factor, start, end, logarithmic=True)
    return Axis(0.0, high * 1.15 or 1.0, start, end)


def loss_axis(values: Sequence[float], *, start: float, end: float) -> Axis:
    """An axis for losses, logarithmic where they fall by more than a factor of twenty."""
    low, high = min(values), max(values)
    if low > 0 and high / low > 5 * LOG_FROM:
        return Axis(low / 1.2, high * 1.2, start, end, logarithmic=True)
    return quality_axis(values, start=start, end=end)


def span_axis(values: Sequence[float], *, start: float, end: float) -> Axis:
    """An axis exactly from the lowest to the highest value."""
    low, high = min(values), max(values)
    return Axis(low, high if high > low else low + 1.0, start, end)


def _steps(low: float, high: float, most: int) -> list[float]:
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [place * step for place in range(first, last + 1)]


def _powers(low: float, high: float, most: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        values = [factor * 10.0**decade for decade in decades for factor in factors]
        inside = [value for value in values if low <= value <= high]
        if len(inside) <= most:
            return inside
    return inside[:: math.ceil(len(inside) / most)]
