"""The geometry of the charts: which mark lies where, and what it says when one points at it.

The template draws them as SVG. No chart needs a library in the page, so that it stays small enough to mail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from understudy.report.axes import Axis, Tick, cost_axis, quality_axis
from understudy.report.records import Role
from understudy.report.schema import Comparison, Gain, Row
from understudy.report.wording import (
    METRICS,
    count,
    gain_name,
    interval,
    metric_of,
    milliseconds,
    points,
    quality,
    quality_summary,
    sentence,
    size,
    unit,
)

LINE_HEIGHT = 15
_WIDTH = 480
"""Of every chart."""
_CHARACTER = 7.2
"""Width of a letter at the size of the labels, to keep them apart."""


@dataclass(frozen=True)
class Mark:
    """One point that can be pointed at.

    Attributes:
        x: pixels from the left.
        y: pixels from the top.
        role: which colour and shape.
        title: first line of what it says.
        text: the other lines.
        label: text that stands beside it, if any.
        label_x: where that text begins or ends.
        label_y: baseline of that text.
        anchor: ``start`` or ``end``, the side of the text at ``label_x``.
        small: one seed of a model, not its mean.
    """

    x: float
    y: float
    role: Role
    title: str
    text: str
    label: str = ""
    label_x: float = 0.0
    label_y: float = 0.0
    anchor: str = "start"
    small: bool = False


@dataclass(frozen=True)
class Line:
    """A line through points, or an arrow."""

    points: str
    role: Role


@dataclass(frozen=True)
class Frame:
    """How large a chart is, and where in it the plotted area lies, in pixels."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True)
class Chart:
    """A chart, ready to be drawn."""

    title: str
    frame: Frame
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    marks: Sequence[Mark]
    lines: Sequence[Line] = ()
    arrows: Sequence[Line] = ()
    zero: float | None = None
    bar: tuple[float, float] | None = None


def frame(height: int) -> Frame:
    """That of a chart with labels on both axes."""
    return Frame(_WIDTH, height, left=58.0, right=_WIDTH - 16.0, top=14.0, bottom=height - 42.0)


def quality_by_cost(rows: Sequence[Row], comparisons: Sequence[Comparison], metric: str, cost: str) -> Chart | None:
    """Quality upwards against ``cost`` to the right, a mark for each model, a dot for each of its seeds.

    Args:
        rows: the models of one evaluation.
        comparisons: the students among them; an arrow leads from each one's control to it.
        metric: what is plotted upwards.
        cost: ``bytes`` or ``latency_ms``.

    Returns:
        The chart, or None when fewer than two models have both numbers.
    """
    shown = [row for row in rows if metric in row.metrics and getattr(row, cost)]
    if len(shown) < 2:
        return None
    box = frame(310)
    values = [value for row in shown for value in row.metrics[metric].values]
    x_axis = cost_axis([getattr(row, cost) for row in shown], start=box.left, end=box.right)
    y_axis = metric_axis(metric, values, box.bottom, box.top)
    several = len({row.run for row in shown}) > 1
    names = {_key(row): f"{row.run}: {row.name}" if several else row.name for row in shown}
    means = {_key(row): _mean_mark(row, names[_key(row)], metric, cost, x_axis, y_axis) for row in shown}
    seeds = [mark for row in shown for mark in _seed_marks(row, names[_key(row)], metric, cost, x_axis, y_axis)]
    label = {"bytes": "Size on disk", "latency_ms": "Latency of one call"}[cost]
    return Chart(
        title=f"{metric_of(metric).label} against {label.lower()}",
        frame=box,
        x_label=label + (" (log scale)" if x_axis.logarithmic else ""),
        y_label=metric_of(metric).label,
        x_ticks=x_axis.ticks(cost_text(cost), most=5),
        y_ticks=y_axis.ticks(tick_text(metric)),
        marks=[*seeds, *with_labels(list(means.values()), box.right)],
        arrows=[
            Line(f"{start.x},{start.y} {end.x},{end.y}", "student")
            for comparison in comparisons
            for start in [means.get((comparison.run, comparison.evaluation, comparison.control or "", "control"))]
            for end in [means.get((comparison.run, comparison.evaluation, comparison.student, "student"))]
            if start and end
        ],
    )


def _key(row: Row) -> tuple[str, str, str, str]:
    return row.run, row.evaluation, row.name, row.role


def _mean_mark(row: Row, name: str, metric: str, cost: str, x_axis: Axis, y_axis: Axis) -> Mark:
    x, y = x_axis.at(getattr(row, cost)), y_axis.at(row.metrics[metric].mean)
    text = "\n".join(
        [
            f"{metric_of(metric).label}: {quality_summary(metric, row.metrics[metric])}",
            f"Size: {size(row.bytes)}",
            f"Latency: {milliseconds(row.latency_ms)}",
        ]
    )
    return Mark(x, y, row.role, f"{name} ({row.role})" if row.name != row.role else name, text, label=name)


def _seed_marks(row: Row, name: str, metric: str, cost: str, x_axis: Axis, y_axis: Axis) -> list[Mark]:
    found = row.metrics[metric]
    if found.n < 2:
        return []
    x = x_axis.at(getattr(row, cost))
    return [
        Mark(x, y_axis.at(value), row.role, f"{name}, seed {seed}", quality(metric, value), small=True)
        for seed, value in zip(found.seeds, found.values, strict=True)
    ]


def with_labels(marks: list[Mark], right: float) -> list[Mark]:
    """Put each name beside its mark, on the side with room, and below a name that it would cover."""
    placed: list[Mark] = []
    for mark in sorted(marks, key=lambda mark: mark.y):
        text = mark.label if len(mark.label) <= 22 else f"{mark.label[:21]}…"
        length = _CHARACTER * len(text)
        fits = mark.x + 12 + length < right
        x = mark.x + 12 if fits else mark.x - 12
        y = mark.y + 4
        for other in placed:
            if _overlap(x, length, fits, other) and y - other.label_y < LINE_HEIGHT:
                y = other.label_y + LINE_HEIGHT
        placed.append(
            replace(mark, label=text, label_x=round(x, 1), label_y=round(y, 1), anchor="start" if fits else "end")
        )
    return placed


def _overlap(x: float, length: float, fits: bool, other: Mark) -> bool:
    begin = x if fits else x - length
    other_length = _CHARACTER * len(other.label)
    other_begin = other.label_x if other.anchor == "start" else other.label_x - other_length
    return begin < other_begin + other_length and other_begin < begin + length


def gain_chart(gain: Gain) -> Chart | None:
    """The gain of each seed on a line with zero, and the interval around their mean; None unless paired."""
    if not gain.paired:
        return None
    box = Frame(_WIDTH, 128, left=24.0, right=_WIDTH - 24.0, top=12.0, bottom=84.0)
    middle = (box.top + box.bottom) / 2
    axis = quality_axis([*gain.values, *(gain.ci95 or ()), 0.0], start=box.left, end=box.right)
    each = unit(gain.metric, 0)
    seeds = [
        Mark(
            axis.at(value),
            middle,
            "student",
            f"seed {seed}",
            f"{points(gain.metric, value, sign=True)} {each}",
            small=True,
        )
        for seed, value in zip(gain.seeds, gain.values, strict=True)
    ]
    text = f"{points(gain.metric, gain.difference, sign=True)} {each}"
    text += f"\n95 % interval: {interval(gain)}" if gain.ci95 else "\none seed, no interval"
    return Chart(
        title="Gain of each seed",
        frame=box,
        x_label=f"{sentence(gain_name(gain.metric))}, {metric_of(gain.metric).label.lower()} ({each})",
        y_label="",
        x_ticks=axis.ticks(lambda value: points(gain.metric, value, sign=True), most=6),
        y_ticks=(),
        marks=[*seeds, Mark(axis.at(gain.difference), middle, "student", "mean", text)],
        zero=axis.at(0.0),
        bar=(axis.at(gain.ci95[0]), axis.at(gain.ci95[1])) if gain.ci95 else None,
    )


def metric_axis(metric: str, values: Sequence[float], start: float, end: float) -> Axis:
    """An upward axis for a metric."""
    most = 1.0 if metric_of(metric).fraction else None
    return quality_axis(values, start=start, end=end, most=most)


def tick_text(metric: str) -> Callable[[float], str]:
    """How a metric reads beside an axis."""
    fraction = metric in METRICS and metric_of(metric).fraction
    return lambda value: f"{round(100 * value, 6):g} %" if fraction else f"{round(value, 9):g}"


def cost_text(cost: str) -> Callable[[float], str]:
    """How a size, a number of MACs or a time reads below an axis."""
    if cost in ("bytes", "macs"):
        show = size if cost == "bytes" else count
        return lambda value: show(value).replace(".00", "").replace(".0 ", " ")
    return lambda value: f"{round(value, 9):g} ms"
