"""Means, spreads, and what a handful of seeds can show."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """How much one series of results lies above another.

    Attributes:
        mean: mean of the first minus mean of the second.
        interval: 95 % t interval of that difference; None when there are too few seeds for one.
        seeds: the seeds compared.
        paired: whether the two were compared seed by seed.
        values: the difference for each of ``seeds``; empty when not paired.
    """

    mean: float
    interval: tuple[float, float] | None
    seeds: tuple[int, ...]
    paired: bool
    values: tuple[float, ...]


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation of a sample (n - 1 in the denominator); None for fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    """Compare two series of results by seed.

    Seeds that both have are paired, which takes out what the seed does to both (data split, initialisation):
    the interval is ``mean(d) ± t(0.975, n - 1) · sd(d) / √n`` over the differences ``d``. Without a common seed
    it is Welch's interval for two independent samples.

    Args:
        first: result by seed.
        second: result by seed.

    Returns:
        ``first - second``, or None when one of the two is empty.
    """
    common = tuple(sorted(first.keys() & second.keys()))
    if common:
        # Twelve decimals: what the arithmetic of floats leaves behind is no difference.
        values = tuple(round(first[seed] - second[seed], 12) for seed in common)
        return Difference(statistics.fmean(values), _interval(values), common, True, values)
    if not first or not second:
        return None
    seeds = tuple(sorted(first.keys() | second.keys()))
    return _welch(tuple(first.values()), tuple(second.values()), seeds)


def _interval(values: Sequence[float]) -> tuple[float, float] | None:
    deviation = spread(values)
    if deviation is None:
        return None
    half = t_quantile(len(values) - 1) * deviation / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - half, mean + half


def _welch(first: Sequence[float], second: Sequence[float], seeds: tuple[int, ...]) -> Difference:
    mean = statistics.fmean(first) - statistics.fmean(second)
    if min(len(first), len(second)) < 2:
        return Difference(mean, None, seeds, False, ())
    errors = [statistics.variance(values) / len(values) for values in (first, second)]
    freedom = sum(error**2 / (len(values) - 1) for error, values in zip(errors, (first, second), strict=True))
    half = t_quantile(sum(errors) ** 2 / freedom) * math.sqrt(sum(errors)) if freedom > 0 else 0.0
    return Difference(mean, (mean - half, mean + half), seeds, False, ())


def t_quantile(freedom: float) -> float:
    """Student's t such that 95 % lie within ± t.

    Args:
        freedom: degrees of freedom, above 0.
    """
    from scipy.special import stdtrit  # a quarter of a second, and only here

    return float(stdtrit(freedom, 0.5 + CONFIDENCE / 2))
