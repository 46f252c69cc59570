"""Numbers as people read them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from understudy.report.schema import Gain, Summary


@dataclass(frozen=True)
class Metric:
    """How a metric is shown.

    Attributes:
        label: its name in words.
        fraction: whether it is a share, shown as a percentage; differences are percentage points.
        unit: unit of a metric that is not a share.
        decimals: of a metric that is not a share; three significant digits when not given.
        lower_is_better: whether a smaller value is the better one; differences are then gains if the value fell.
        noun: what a difference is one of, where that is not the name in small letters.
        digits: significant ones of a difference, of a metric whose size nobody knows; as of a share when not given.
        by_teacher: whether the teacher's answers are its measure, as nobody knows the true ones: the teacher's own is
            the best there is, and there are no labels to train a control on.
    """

    label: str
    fraction: bool = False
    unit: str = ""
    lower_is_better: bool = False
    decimals: int | None = None
    noun: str = ""
    digits: int | None = None
    by_teacher: bool = False


METRICS = {
    "accuracy": Metric("Accuracy", fraction=True),
    "top5": Metric("Top-5 accuracy", fraction=True),
    "precision": Metric("Precision", fraction=True),
    "recall": Metric("Recall", fraction=True),
    "f1": Metric("F1", fraction=True),
    "micro_f1": Metric("F1 of all labels together", fraction=True),
    "exact_match": Metric("All labels right", fraction=True),
    "mean_average_precision": Metric("Mean average precision", fraction=True),
    "calibration_error": Metric("Calibration error", fraction=True, lower_is_better=True),
    "bits": Metric("Bits per token", unit="bits", lower_is_better=True, decimals=3),
    "perplexity": Metric("Perplexity", lower_is_better=True),
    "rmse": Metric("RMSE", lower_is_better=True, noun="RMSE", digits=3),
    "mse": Metric("MSE", lower_is_better=True, noun="MSE", digits=3),
    "mae": Metric("MAE", lower_is_better=True, noun="MAE", digits=3),
    "pearson": Metric("Correlation", decimals=3),
    "spearman": Metric("Rank correlation", decimals=3),
    "r2": Metric("R²", decimals=3, noun="R²"),
    "rmse_to_teacher": Metric("RMSE to teacher", lower_is_better=True, digits=3),
    "spearman_to_teacher": Metric("Rank correlation with teacher", decimals=3),
    "similarity": Metric("Similarity correlation with teacher", decimals=3, by_teacher=True),
    "nearest": Metric("Teacher's nearest is nearest", fraction=True, by_teacher=True),
    "nearest10": Metric("Teacher's nearest among 10", fraction=True, by_teacher=True),
    "agreement": Metric("Agreement with teacher", fraction=True),
    "kl_from_teacher": Metric("KL from teacher", unit="nats", lower_is_better=True),
    "kl_to_teacher": Metric("KL to teacher", unit="nats", lower_is_better=True),
    "errors": Metric("Errors", lower_is_better=True),
    "samples": Metric("Samples"),
}


def metric_of(name: str) -> Metric:
    """How to show a metric; one that is not known is a plain number under its own name."""
    return METRICS.get(name, Metric(name.replace("_", " ").capitalize()))


def quality(name: str, value: float | None, *, decimals: int | None = None) -> str:
    """One value of a metric: ``"97.31 %"``, ``"0.18 nats"``."""
    if value is None or not math.isfinite(value):
        return "–"
    metric = metric_of(name)
    if metric.fraction:
        return f"{100 * value:.{2 if decimals is None else decimals}f} %"
    shown = _plain(value) if metric.decimals is None else f"{value:.{metric.decimals}f}"
    return f"{shown} {metric.unit}".strip()


def quality_summary(name: str, summary: Summary | None) -> str:
    """Mean and standard deviation over the seeds: ``"97.31 ± 0.20 %"``; the value alone for one seed."""
    if summary is None:
        return "–"
    if summary.std is None:
        return quality(name, summary.mean)
    metric = metric_of(name)
    if metric.fraction:
        return f"{100 * summary.mean:.2f} ± {100 * summary.std:.2f} %"
    digits = max(0, _digits(summary.std) - 1) if summary.std else _digits(summary.mean)
    digits = digits if metric.decimals is None else metric.decimals
    return f"{summary.mean:,.{digits}f} ± {summary.std:,.{digits}f} {metric.unit}".strip()


def unit(name: str, value: float) -> str:
    """The unit of a difference: ``points`` for shares (``point`` for exactly 1.0), the metric's own otherwise."""
    metric = metric_of(name)
    if metric.fraction:
        return "point" if f"{abs(100 * value):.1f}" == "1.0" else "points"
    return metric.unit or metric.noun or metric.label.lower()


def points(name: str, value: float, *, sign: bool = False, decimals: int | None = None) -> str:
    """A difference between two values of a metric, without its unit: ``"+1.8"``."""
    metric = metric_of(name)
    scaled = 100 * value if metric.fraction else value
    decimals = metric.decimals if metric.decimals is not None else decimals
    if metric.digits is not None:
        decimals = _digits(scaled)
    digits = _decimals(scaled) if decimals is None else decimals
    text = f"{scaled:+.{digits}f}" if sign else f"{scaled:.{digits}f}"
    return text.replace("-", "−") if float(text) != 0 else text.lstrip("+-")


def gain_points(gain: Gain) -> str:
    """The gain with its half-width: ``"+1.8 ± 0.3 points"``; without one for a single seed."""
    return difference_points(gain.metric, gain.difference, gain.ci95)


def difference_points(name: str, difference: float, ci95: tuple[float, float] | None) -> str:
    """A difference in a metric with the half-width of its interval: ``"+1.8 ± 0.3 points"``."""
    if ci95 is None:
        return f"{points(name, difference, sign=True)} {unit(name, difference)}"
    half = (ci95[1] - ci95[0]) / 2
    scaled = 100 * half if metric_of(name).fraction else half
    digits = _decimals(scaled) if scaled > 0 else _decimals(100 * difference)
    shown = points(name, difference, sign=True, decimals=digits)
    return f"{shown} ± {points(name, half, decimals=digits)} {unit(name, math.inf)}"


def interval(gain: Gain) -> str:
    """The interval by its ends: ``"+1.5 to +2.1 points"``; empty for a single seed."""
    if gain.ci95 is None:
        return ""
    low, high = (points(gain.metric, end, sign=True) for end in gain.ci95)
    return f"{low} to {high} {unit(gain.metric, math.inf)}"


def gain_name(metric: str) -> str:
    """What a gain is the difference of: ``"student − control"``, so that above 0 is better."""
    return "control − student" if metric_of(metric).lower_is_better else "student − control"


def times(ratio: float) -> str:
    """A factor: ``"9×"``, ``"1.4×"``, ``"93×"``."""
    text = f"{ratio:.0f}" if ratio >= 9.95 else f"{ratio:.1f}".removesuffix(".0")
    return f"{text}×"


def count(value: float | None) -> str:
    """A count with a decimal prefix: ``"1.2 M"``."""
    if value is None:
        return "–"
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{_three(value / size)} {prefix}"
    return f"{value:.0f}"


def size(value: float | None) -> str:
    """Bytes with a decimal prefix: ``"4.8 MB"``."""
    if value is None:
        return "–"
    return f"{count(value)}B" if value >= 1e3 else f"{value:.0f} B"


def milliseconds(value: float | None) -> str:
    """A latency: ``"0.054 ms"``, ``"14.1 ms"``; seconds from 1000 ms on."""
    if value is None:
        return "–"
    return f"{_three(value / 1e3)} s" if value >= 1e3 else f"{_three(value)} ms"


def duration(seconds: float | None) -> str:
    """Wall time: ``"41 s"``, ``"3 min 20 s"``, ``"2 h 5 min"``."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        whole, rest = divmod(round(seconds), 60)
        return f"{whole} min {rest} s" if rest else f"{whole} min"
    return f"{minutes // 60} h {minutes % 60} min"


def sentence(text: str) -> str:
    """Text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def numbered(amount: int, noun: str) -> str:
    """A count with its noun: ``"1 seed"``, ``"3 seeds"``."""
    return f"{amount:,} {noun}" if amount == 1 else f"{amount:,} {noun}s"


def seed_list(seeds: list[int] | tuple[int, ...]) -> str:
    """Seeds in words: ``"seed 1"``, ``"seeds 0, 1, 2"``."""
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


def _decimals(value: float) -> int:
    return 1 if abs(value) >= 0.095 or value == 0 else 2


def _three(value: float) -> str:
    """Three significant digits without an exponent."""
    if value == 0:
        return "0"
    return f"{value:.{_digits(value)}f}"


def _digits(value: float) -> int:
    """Decimals that show three significant digits, six at the most."""
    return 0 if value == 0 else min(6, max(0, 2 - math.floor(math.log10(abs(value)) + 1e-9)))


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e15 else _three(value)
