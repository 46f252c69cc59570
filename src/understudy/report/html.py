"""The report as one page that needs nothing else: it opens offline, in light and dark, on a phone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from understudy.report import contents, deployments, wording
from understudy.report.charts import Chart, gain_chart, quality_by_cost
from understudy.report.curves import curve_charts
from understudy.report.evidence import Confusion, Disagreement, Picture
from understudy.report.headline import beside_teacher, gain_sentence
from understudy.report.layers import LAYER_HEADERS, LEGEND, layer_cells, layer_chart, layer_conditions
from understudy.report.pareto import pareto_charts
from understudy.report.pictures import picture
from understudy.report.schema import Comparison, Report, Row, Run

LARGEST_GRID = 400
"""Pixels of the longer side of a picture that a stage left."""


@dataclass(frozen=True)
class Tile:
    """One of the big numbers on top of the page."""

    name: str
    value: str
    unit: str
    detail: str
    tone: str


@dataclass(frozen=True)
class Sample:
    """A sample that teacher and student see differently, with its picture."""

    disagreement: Disagreement
    picture: str | None


@dataclass(frozen=True)
class Shown:
    """A picture that a stage left, inlined."""

    picture: Picture
    address: str | None


@dataclass(frozen=True)
class Trainings:
    """The training curves of one run."""

    run: str
    charts: list[Chart]


def to_html(report: Report) -> str:
    """The report as one self-contained HTML page.

    Every text of the user's is escaped, and a content security policy in the page forbids it to load anything
    or to run any script but its own. Pictures are read from the runs' directories when the report still knows
    them, which one read back from JSON does not.
    """
    environment = Environment(
        loader=PackageLoader("understudy.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        advice=deployments.advice,
        cells=contents.cells,
        deployment_cells=deployments.deployment_cells,
        deployment_conditions=deployments.deployment_conditions,
        deployment_headers=deployments.deployment_headers,
        gain_sentence=gain_sentence,
        gained=contents.gained(report),
        headers=contents.headers,
        interval=wording.interval,
        layer_cells=layer_cells,
        layer_chart=layer_chart,
        layer_conditions=layer_conditions,
        layer_headers=LAYER_HEADERS,
        layer_legend=LEGEND,
        machine=contents.machine,
        origin=deployments.origin,
        proved=deployments.proved,
        metric_lines=contents.metric_lines,
        tiles=_tiles,
        gain_chart=_gain_chart_of,
    )
    environment.filters.update(
        duration=wording.duration,
        numbered=wording.numbered,
        quality=lambda value, name: wording.quality(name, value),
        seed_list=wording.seed_list,
        sentence=wording.sentence,
    )
    script, style = _packaged("report.js"), _packaged("report.css")
    return environment.get_template("report.html.j2").render(
        report=report,
        script=script,
        style=style,
        script_hash=_hash(script),
        groups=contents.groups(report),
        conditions=contents.conditions(report),
        labelled=contents.labelled(report),
        plots=_plots(report),
        trainings=_trainings(report),
        confusions=_confusions(report),
        samples=_samples(report),
        pictures=_pictures(report),
        fronts=_fronts(report),
    )


def _packaged(name: str) -> str:
    return (files("understudy.report") / "templates" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _tiles(comparison: Comparison, report: Report) -> list[Tile]:
    """The four numbers that people ask for first; those that are not known are left out."""
    rows = {row.name: row for row in report.rows if row.run == comparison.run}
    student, teacher = rows[comparison.student], rows.get(comparison.teacher or "")
    metric = _metric(report, comparison)
    made = [
        _factor_tile("Size", comparison.smaller, "smaller", "bigger", _change(teacher, student, "bytes")),
        _factor_tile("Latency", comparison.faster, "faster", "slower", _change(teacher, student, "latency_ms")),
        _quality_tile(comparison, student, metric),
        _gain_tile(comparison),
    ]
    return [tile for tile in made if tile]


def _metric(report: Report, comparison: Comparison) -> str:
    run = next(run for run in report.runs if run.name == comparison.run)
    return next(each.metric for each in run.evaluations if each.name == comparison.evaluation)


def _change(teacher: Row | None, student: Row, cost: str) -> str:
    show = wording.size if cost == "bytes" else wording.milliseconds
    before = show(getattr(teacher, cost)) if teacher else "–"
    return f"{before} → {show(getattr(student, cost))}"


def _factor_tile(name: str, ratio: float | None, better: str, worse: str, detail: str) -> Tile | None:
    if ratio is None:
        return None
    value = wording.times(max(ratio, 1 / ratio))
    return Tile(name, value, better if ratio >= 1 else worse, detail, "good" if ratio > 1 else "bad")


def _quality_tile(comparison: Comparison, student: Row, metric: str) -> Tile:
    below = comparison.below_teacher
    detail = f"mean over {wording.seed_list(student.metrics[metric].seeds)}"
    if below is not None:
        detail = beside_teacher(metric, below, comparison.below_teacher_ci95)
    value = wording.quality(metric, student.metrics[metric].mean)
    return Tile(wording.metric_of(metric).label, value, "", detail, "plain")


def _gain_tile(comparison: Comparison) -> Tile:
    gain = comparison.gain
    name = f"Worth of {gain.of if gain else 'the teacher'}"
    if gain is None:
        return Tile(name, "unknown", "", "this student has no control", "bad")
    amount, _, unit = wording.gain_points(gain).rpartition(" ")
    if gain.ci95 is None:
        return Tile(name, amount, unit, "one seed proves nothing", "bad")
    over = f"95 % interval, {wording.numbered(len(gain.seeds), 'seed')}"
    return Tile(name, amount, unit, over if gain.shown else f"no gain shown; {over}", "good" if gain.shown else "bad")


def _gain_chart_of(comparison: Comparison) -> Chart | None:
    return gain_chart(comparison.gain) if comparison.gain else None


def _plots(report: Report) -> list[Chart]:
    """Quality against size and latency; runs that were evaluated alike share a chart."""
    found: dict[tuple[object, ...], list[Row]] = {}
    for run in report.runs:
        for evaluation in run.evaluations:
            key = (evaluation.metric, evaluation.split, evaluation.samples, tuple(evaluation.classes))
            alike = [
                row
                for row in report.rows
                if (row.run, row.evaluation) == (run.name, evaluation.name) and not _is_of_layers(report, row)
            ]
            found.setdefault(key, []).extend(alike)
    charts = [
        quality_by_cost(rows, _within(report.comparisons, rows), str(key[0]), cost)
        for key, rows in found.items()
        for cost in ("bytes", "latency_ms")
    ]
    return [chart for chart in charts if chart]


def _is_of_layers(report: Report, row: Row) -> bool:
    """Whether a model stands in the chart of which layers transfer, with those of one size that it is about."""
    return row.role == "model" and any(row.run == each.run and row.stage in each.stages for each in report.layers)


def _fronts(report: Report) -> dict[tuple[str, str, int], list[Chart]]:
    """What nothing beats, for the first seed of each deploy stage."""
    made: dict[tuple[str, str, int], list[Chart]] = {}
    for each in report.deployments:
        if not any((run, stage) == (each.run, each.stage) for run, stage, _ in made):
            splits = _splits(report, each.run)
            rows = [row for row in report.rows if row.run == each.run and splits[row.evaluation] == "test"]
            made[each.run, each.stage, each.seed] = pareto_charts(each, rows)
    return made


def _splits(report: Report, name: str) -> dict[str, str]:
    run = next(run for run in report.runs if run.name == name)
    return {evaluation.name: evaluation.split for evaluation in run.evaluations}


def _within(comparisons: Sequence[Comparison], rows: Sequence[Row]) -> list[Comparison]:
    stages = {(row.run, row.evaluation) for row in rows}
    return [each for each in comparisons if (each.run, each.evaluation) in stages]


def _trainings(report: Report) -> list[Trainings]:
    made = []
    for run in report.runs:
        metric = run.evaluations[0].metric if run.evaluations else "accuracy"
        own = [row.stage for row in report.rows if row.run == run.name and _is_of_layers(report, row)]
        shown = [curve for curve in report.curves if curve.run == run.name and curve.stage not in own]
        charts = curve_charts(shown, metric)
        if charts:
            made.append(Trainings(run.name, charts))
    return made


def _confusions(report: Report) -> list[tuple[Run, list[Confusion]]]:
    left = {(row.run, row.name) for row in report.rows if _is_of_layers(report, row)}
    shown = [each for each in report.confusions if (each.run, each.name) not in left]
    pairs = [(run, [each for each in shown if each.run == run.name]) for run in report.runs]
    return [(run, found) for run, found in pairs if found]


def _samples(report: Report) -> list[Sample]:
    directories = {run.name: run.directory for run in report.runs}
    return [Sample(sample, picture(directories[sample.run], sample.image)) for sample in report.disagreements]


def _pictures(report: Report) -> list[Shown]:
    directories = {run.name: run.directory for run in report.runs}
    return [Shown(each, picture(directories[each.run], each.image, largest=LARGEST_GRID)) for each in report.pictures]
