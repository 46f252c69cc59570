"""Quality against cost of all candidates of a run, and those that nothing beats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from understudy.report.axes import cost_axis
from understudy.report.charts import Chart, Line, Mark, cost_text, frame, metric_axis, tick_text, with_labels
from understudy.report.deployed import Contender, Deployment
from understudy.report.records import Role
from understudy.report.schema import Row
from understudy.report.wording import count, metric_of, milliseconds, quality, sentence, size

COSTS = {"latency_ms": "latency of one sample", "bytes": "size on disk", "macs": "MACs of one sample"}
"""What quality is plotted against."""
_MODELS = ("torch eager", "torch compiled")


@dataclass(frozen=True)
class Point:
    """One candidate.

    Attributes:
        name: of the file or model, with what executes it.
        path: the file that one can take.
        role: how it is drawn: ``student`` for files, ``model`` for models in PyTorch, ``teacher`` for the reference.
        quality: upwards.
        latency_ms: of one sample; None where it was not timed in turns with the others.
        bytes: on disk.
        macs: of one sample.
    """

    name: str
    path: str
    role: Role
    quality: float
    latency_ms: float | None
    bytes: float | None
    macs: float | None


def pareto_charts(deployment: Deployment, rows: Sequence[Row]) -> list[Chart]:
    """Quality on the test split against latency, size and MACs; a dotted line joins what nothing beats in both.

    Args:
        deployment: what was measured in turns.
        rows: the models that the same run has evaluated on the test split; those that were not measured with the
            files stand in the charts of size and MACs only, since they were timed apart.
    """
    points = candidates(deployment, rows)
    charts = [_chart(deployment.metric, points, cost) for cost in COSTS]
    return [chart for chart in charts if chart is not None]


def candidates(deployment: Deployment, rows: Sequence[Row]) -> list[Point]:
    """Everything that a run offers."""
    measured = [_measured(each, deployment) for each in deployment.contenders]
    known = {each.name for each in deployment.contenders}
    evaluated = [_evaluated(row, deployment) for row in rows if row.name not in known]
    return [point for point in (*measured, *evaluated) if point is not None]


def front(points: Sequence[Point], cost: str) -> list[Point]:
    """Those that no other is as good as at a lower cost, nor better than at the same, the cheapest first.

    Args:
        points: candidates that have this cost.
        cost: one of :data:`COSTS`.
    """
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (getattr(point, cost), -point.quality)):
        if not found or point.quality > found[-1].quality:
            found.append(point)
    return found


def _measured(contender: Contender, deployment: Deployment) -> Point | None:
    if contender.failed is not None or contender.reported is None:
        return None
    is_model = contender.runtime in _MODELS
    role: Role = "teacher" if contender.name == deployment.reference else "model" if is_model else "student"
    return Point(
        name=f"{contender.name} in {contender.runtime}",
        path=contender.path,
        role=role,
        quality=contender.reported,
        latency_ms=contender.latency.median_ms if contender.latency else None,
        bytes=contender.bytes,
        macs=contender.macs,
    )


def _evaluated(row: Row, deployment: Deployment) -> Point | None:
    summary = row.metrics.get(deployment.metric)
    if summary is None:
        return None
    own = dict(zip(summary.seeds, summary.values, strict=True)).get(deployment.seed, summary.mean)
    place = f"stages/{row.stage}{'/…/control' if row.role == 'control' else ''}"
    return Point(row.name, place, row.role, own, None, row.bytes, row.macs)


def _chart(metric: str, points: Sequence[Point], cost: str) -> Chart | None:
    shown = [point for point in points if getattr(point, cost)]
    if len({(getattr(point, cost), point.quality) for point in shown}) < 2:
        return None
    box = frame(310)
    x_axis = cost_axis([getattr(point, cost) for point in shown], start=box.left, end=box.right)
    y_axis = metric_axis(metric, [point.quality for point in shown], box.bottom, box.top)
    unbeaten = front(shown, cost)
    marks = {
        point: Mark(
            x_axis.at(getattr(point, cost)), y_axis.at(point.quality), point.role, point.name, _text(point, metric)
        )
        for point in shown
    }
    named = [_named(marks[point], point) for point in unbeaten]
    return Chart(
        title=f"{metric_of(metric).label} against {COSTS[cost]}",
        frame=box,
        x_label=sentence(COSTS[cost]) + (" (log scale)" if x_axis.logarithmic else ""),
        y_label=metric_of(metric).label,
        x_ticks=x_axis.ticks(cost_text(cost), most=5),
        y_ticks=y_axis.ticks(tick_text(metric)),
        marks=[*(mark for point, mark in marks.items() if point not in unbeaten), *with_labels(named, box.right)],
        arrows=[Line(" ".join(f"{mark.x},{mark.y}" for mark in named), "student")] if len(named) > 1 else (),
    )


def _named(mark: Mark, point: Point) -> Mark:
    return Mark(mark.x, mark.y, mark.role, mark.title, mark.text, label=point.name.partition(" in ")[0])


def _text(point: Point, metric: str) -> str:
    return "\n".join(
        [
            f"{metric_of(metric).label}: {quality(metric, point.quality)}",
            f"Latency: {milliseconds(point.latency_ms)}",
            f"Size: {size(point.bytes)}",
            f"MACs: {count(point.macs)}",
            f"Take: {point.path}",
        ]
    )
