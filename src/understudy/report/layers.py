"""Which layers transfer: the trainings that kept only the first units of a source, put beside one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from understudy.report.axes import Tick, span_axis
from understudy.report.charts import Chart, Line, Mark, frame, metric_axis, tick_text
from understudy.report.records import EvaluationFile, KeptFile, Role, RunRecord
from understudy.report.rows import Evaluated, summary
from understudy.report.schema import KeptUnits, LayerTransfer, Summary
from understudy.report.statistics import difference
from understudy.report.wording import difference_points, metric_of, numbered, quality, quality_summary

LAYER_HEADERS = ("Units kept", "Up to", "Frozen", "Tuned")
LEGEND: dict[Role, str] = {"teacher": "frozen", "student": "tuned", "control": "from random weights"}
"""How the lines of the chart are drawn."""
_ASIDE: dict[Role, float] = {"teacher": -4.0, "student": 4.0, "control": 0.0}
"""Pixels by which marks stand beside their number of units, so that one does not cover the other."""

_Way = Literal["frozen", "tuned", "scratch"]
_Place = tuple[int, _Way]
"""How many units were kept, and what was done with them."""
_Series = dict[_Place, dict[int, float]]
"""Results by seed."""

_Marked = tuple[int, str | None, Summary]
"""A point of a line: how many units were kept, the name of the last one, the results."""


def layer_transfers(record: RunRecord, run: str, found: Evaluated) -> list[LayerTransfer]:
    """One for each source, training and evaluation; none where no stage keeps a part of a source.

    Args:
        record: the run.
        run: its name in the report.
        found: its evaluations.
    """
    kept = {stage.name: stage.stage.kept for stage in record.stages if stage.stage and stage.stage.kept}
    made = []
    for evaluation, seeds in found.items():
        for experiment in dict.fromkeys(each.experiment for each in kept.values()):
            places: dict[str, _Place] = {
                name: (each.units, way)
                for name, each in kept.items()
                if each.experiment == experiment and (way := _way(each)) is not None
            }
            series, stages = _series(seeds, places)
            if series:
                file, first = next(iter(seeds.values())), kept[stages[0]]
                made.append(_layer_transfer(run, evaluation, file, first, series, stages))
    return made


def _way(kept: KeptFile) -> _Way | None:
    """On which line a training is; None for one that freezes some of the units that it keeps, and not all."""
    if not kept.units:
        return "scratch"
    return {0: "tuned", kept.units: "frozen"}.get(kept.frozen)  # pyright: ignore[reportReturnType]


def _series(seeds: Mapping[int, EvaluationFile], places: Mapping[str, _Place]) -> tuple[_Series, list[str]]:
    """The results, and the stages that they are from. A training that was measured for several seeds counts once."""
    series: _Series = {}
    stages: dict[_Place, str] = {}
    for seed, file in sorted(seeds.items()):
        for row in file.rows:
            place, value = places.get(row.stage or ""), row.metrics.get(file.metric)
            if place is None or value is None or row.role == "control" or row.stage is None:
                continue
            if stages.setdefault(place, row.stage) == row.stage:
                series.setdefault(place, {})[seed if row.seed is None else row.seed] = value
    return series, list(stages.values())


def _layer_transfer(
    run: str, evaluation: str, file: EvaluationFile, kept: KeptFile, series: _Series, stages: list[str]
) -> LayerTransfer:
    counts = sorted({count for count, _ in series} - {0})
    points = [_point(count, kept.of[count - 1], series) for count in counts]
    scratch = series.get((0, "scratch"))
    return LayerTransfer(
        run=run,
        evaluation=evaluation,
        source=kept.source,
        metric=file.metric,
        split=file.split,
        units=kept.of,
        headline=_headline(points, file.metric, len(kept.of)),
        scratch=summary(scratch) if scratch else None,
        points=points,
        stages=stages,
    )


def _point(count: int, name: str, series: _Series) -> KeptUnits:
    frozen, tuned = series.get((count, "frozen"), {}), series.get((count, "tuned"), {})
    cost = difference(tuned, frozen)
    return KeptUnits(
        units=count,
        name=name,
        frozen=summary(frozen) if frozen else None,
        tuned=summary(tuned) if tuned else None,
        cost=cost.mean if cost else None,
        cost_ci95=cost.interval if cost else None,
    )


def _headline(points: Sequence[KeptUnits], metric: str, units: int) -> str:
    """From where on freezing costs more than the seeds differ by; that it is not known, where it is not."""
    compared = [point for point in points if point.cost is not None]
    if not compared:
        return "nothing was trained both frozen and tuned, so nothing says what freezing costs"
    if any(point.cost_ci95 is None for point in compared):
        return "one seed proves nothing: three or more say from which unit on freezing costs"
    costly = [point for point in compared if point.cost_ci95 is not None and point.cost_ci95[0] > 0]
    on = [point for place, point in enumerate(compared) if all(each in costly for each in compared[place:])]
    if on:
        begin = on[0]
        return f"freezing costs from {_of(begin, units)} on: {_amount(metric, begin)} below tuning them"
    last = compared[-1]
    if last.cost_ci95 is not None and last.cost_ci95[1] < 0:
        return f"freezing helps: {_of(last, units)} are {_amount(metric, last)} better frozen than tuned"
    gain = f"tuning them gives {difference_points(metric, last.cost or 0.0, last.cost_ci95)}"
    before = f" (it was with {', '.join(str(point.units) for point in costly)})" if costly else ""
    return f"no cost of freezing {_of(last, units)} was shown{before}: {gain}, an interval that includes 0"


def _of(point: KeptUnits, units: int) -> str:
    return f"{point.units} of {numbered(units, 'unit')} ({point.name})"


def _amount(metric: str, point: KeptUnits) -> str:
    return difference_points(metric, point.cost or 0.0, point.cost_ci95).lstrip("+−")


def layer_cells(each: LayerTransfer) -> list[list[str]]:
    """The lines of the table, in the order of :data:`LAYER_HEADERS`; with no unit kept, both are the same network."""
    scratch = quality_summary(each.metric, each.scratch)
    first = [["0", "–", scratch, scratch]] if each.scratch else []
    return [
        *first,
        *(
            [str(point.units), point.name, *(quality_summary(each.metric, one) for one in (point.frozen, point.tuned))]
            for point in each.points
        ),
    ]


def layer_conditions(each: LayerTransfer) -> str:
    """How the numbers were taken, in one sentence."""
    seeds = [one.n for point in each.points for one in (point.frozen, point.tuned) if one] or [1]
    over = f", mean ± standard deviation over {numbered(max(seeds), 'seed')}" if max(seeds) > 1 else ", one seed"
    return (
        f"{metric_of(each.metric).label} on the {each.split} split{over}; so many units of {each.source}, counted from "
        "the inputs, kept their weights, and all others began at random."
    )


def layer_chart(each: LayerTransfer) -> Chart:
    """Quality against the number of units that were kept: a line for frozen ones, one for tuned ones.

    Args:
        each: with any results.
    """
    series: dict[Role, list[_Marked]] = {role: list(_marked(each, role)) for role in LEGEND}
    box = frame(310)
    most = 1.0 if metric_of(each.metric).fraction else float("inf")
    summaries = [one for marked in series.values() for _, _, one in marked]
    ends = [one.mean + sign * (one.std or 0.0) for one in summaries for sign in (-1, 1)]
    x_axis = span_axis([0.0, float(len(each.units))], start=box.left + 16, end=box.right - 16)
    y_axis = metric_axis(each.metric, [min(end, most) for end in ends], box.bottom, box.top)
    scratch = series["control"]
    lines, marks = [], []
    for role, marked in series.items():
        for count, name, one in marked:
            x, y = round(x_axis.at(count) + _ASIDE[role], 1), y_axis.at(one.mean)
            marks.append(Mark(x, y, role, f"{count} of {len(each.units)} units {LEGEND[role]}", _told(each, name, one)))
            if one.std:
                low, high = y_axis.at(one.mean - one.std), y_axis.at(min(one.mean + one.std, most))
                lines.append(Line(f"{x},{low} {x},{high}", role))
        places = [(x_axis.at(count) + _ASIDE[role] * bool(count), y_axis.at(one.mean)) for count, _, one in marked]
        if role == "control":
            places += [(box.right, y) for _, y in places]  # the level of the network from random weights
        elif places and scratch:
            places.insert(0, (x_axis.at(0), y_axis.at(scratch[0][2].mean)))
        lines.append(Line(" ".join(f"{x},{y}" for x, y in places), role))
    return Chart(
        title=f"{metric_of(each.metric).label} by the units kept of {each.source}",
        frame=box,
        x_label="Units kept, counted from the inputs",
        y_label=metric_of(each.metric).label,
        x_ticks=[Tick(x_axis.at(count), str(count)) for count in _counts(each)],
        y_ticks=y_axis.ticks(tick_text(each.metric)),
        marks=marks,
        lines=[line for line in lines if " " in line.points],
    )


def _marked(each: LayerTransfer, role: Role) -> Iterator[_Marked]:
    """The points of one line."""
    if role == "control":
        if each.scratch:
            yield 0, None, each.scratch
        return
    for point in each.points:
        one = point.frozen if role == "teacher" else point.tuned
        if one:
            yield point.units, point.name, one


def _counts(each: LayerTransfer) -> list[int]:
    return [*([0] if each.scratch else []), *(point.units for point in each.points)]


def _told(each: LayerTransfer, name: str | None, one: Summary) -> str:
    seeds = zip(one.seeds, one.values, strict=True) if one.n > 1 else ()
    return "\n".join(
        [
            *([f"Up to {name}"] if name else []),
            quality_summary(each.metric, one),
            *(f"seed {seed}: {quality(each.metric, value)}" for seed, value in seeds),
        ]
    )
