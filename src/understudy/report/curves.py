"""Training curves as charts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from understudy.report.axes import loss_axis, span_axis
from understudy.report.charts import Chart, Line, Mark, frame, metric_axis, tick_text
from understudy.report.evidence import Curve, CurvePoint
from understudy.report.wording import metric_of, quality, sentence

MOST_MARKS = 40
"""Points of one curve that one can point at; the line itself goes through all."""


def curve_charts(curves: Sequence[Curve], metric: str) -> list[Chart]:
    """Validation quality of all trainings in one chart, then the loss of each model in its own.

    Losses are not put together: a student's is another sum of terms than a teacher's.

    Args:
        curves: the trainings of one run.
        metric: the headline metric; another that was validated takes its place where it was not.
    """
    validated = _validated_metric(curves, metric)
    charts = []
    if validated:
        charts.append(_quality_chart(curves, validated))
    models = dict.fromkeys((curve.stage, curve.control) for curve in curves)
    for stage, control in models:
        of_model = [curve for curve in curves if (curve.stage, curve.control) == (stage, control)]
        charts.append(_loss_chart(of_model))
    return [chart for chart in charts if chart is not None]


def curve_name(curve: Curve) -> str:
    """What a training is called: its stage, or the control of its stage."""
    return f"control of {curve.stage}" if curve.control else curve.stage


def _validated_metric(curves: Sequence[Curve], metric: str) -> str | None:
    names = dict.fromkeys(name for curve in curves for point in curve.points for name in point.validation)
    return metric if metric in names else next(iter(names), None)


def _quality_chart(curves: Sequence[Curve], metric: str) -> Chart | None:
    title = f"{metric_of(metric).label} on the validation split"

    def value(point: CurvePoint) -> float | None:
        return point.validation.get(metric)

    return _chart(curves, title, value, lambda number: quality(metric, number), metric=metric)


def _loss_chart(curves: Sequence[Curve]) -> Chart | None:
    title = f"Training loss: {curve_name(curves[0])}"
    return _chart(curves, title, lambda point: point.loss, lambda number: f"{number:.4g}", metric=None)


def _chart(
    curves: Sequence[Curve],
    title: str,
    value: Callable[[CurvePoint], float | None],
    text: Callable[[float], str],
    *,
    metric: str | None,
) -> Chart | None:
    series = [
        (curve, [(point, number) for point in curve.points for number in [value(point)] if number is not None])
        for curve in curves
    ]
    series = [(curve, points) for curve, points in series if points]
    if not series:
        return None
    box = frame(270)
    numbers = [number for _, points in series for _, number in points]
    # Steps are what student and control have in common: with fewer samples, the same budget is more epochs.
    in_steps = all(point.step is not None for _, points in series for point, _ in points)
    x_axis = span_axis(
        [_done(point, in_steps) for _, points in series for point, _ in points], start=box.left, end=box.right
    )
    y_axis = (
        metric_axis(metric, numbers, box.bottom, box.top)
        if metric
        else loss_axis(numbers, start=box.bottom, end=box.top)
    )
    lines, marks = [], []
    for curve, points in series:
        places = [(x_axis.at(_done(point, in_steps)), y_axis.at(number)) for point, number in points]
        lines.append(Line(" ".join(f"{x},{y}" for x, y in places), curve.role))
        step = -(-len(points) // MOST_MARKS)
        for (x, y), (point, number) in list(zip(places, points, strict=True))[::step]:
            told = "\n".join([_when(point), text(number), *_terms(point, metric)])
            marks.append(Mark(x, y, curve.role, f"{curve_name(curve)}, seed {curve.seed}", told, small=True))
    return Chart(
        title=title + (" (log scale)" if y_axis.logarithmic else ""),
        frame=box,
        x_label="Step" if in_steps else "Epoch",
        y_label=title,
        x_ticks=x_axis.ticks(lambda number: f"{number:,.10g}"),
        y_ticks=y_axis.ticks(tick_text(metric or "loss")),
        marks=marks,
        lines=lines,
    )


def _done(point: CurvePoint, in_steps: bool) -> float:
    return float(point.step) if in_steps and point.step is not None else point.epoch


def _when(point: CurvePoint) -> str:
    epoch = f"epoch {round(point.epoch, 2):g}"
    return sentence(epoch) if point.step is None else f"Step {point.step:,}, {epoch}"


def _terms(point: CurvePoint, metric: str | None) -> list[str]:
    """The terms of a loss, with their weights; nothing for a quality, nor where the loss is a single term."""
    if metric or len(point.terms) < 2:
        return []
    weights = {name: f" × {weight:.4g}" for name, weight in point.weights.items()}
    return [f"{name}: {number:.4g}{weights.get(name, '')}" for name, number in point.terms.items()]
