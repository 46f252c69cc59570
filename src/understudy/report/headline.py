"""The result in words, whatever it is."""

from __future__ import annotations

from understudy.report.schema import Comparison, Gain, Row, Run, Status
from understudy.report.statistics import Difference
from understudy.report.wording import gain_points, metric_of, numbered, points, quality, times, unit

SAME = 0.05
"""Sizes and times within 5 % of each other are called the same."""


_STATES: dict[Status, str] = {
    "done": "",
    "partial": "not complete: ",
    "running": "not finished: ",
    "failed": "this run failed: ",
}
"""What comes before any result of a run that is not whole."""


def comparison_headline(
    *,
    smaller: float | None,
    faster: float | None,
    below_teacher: Difference | None,
    metric: str,
    gain: Gain | None,
    student: Row,
) -> str:
    """One sentence: ``"9× smaller, 6× faster, 0.4 points below the teacher; the teacher was worth …"``.

    Args:
        smaller: teacher's size over student's.
        faster: teacher's latency over student's.
        below_teacher: by how much the teacher is better in ``metric``; None without a teacher.
        metric: name of the headline metric.
        gain: student against control; None without a control.
        student: the student's row.
    """
    size = _factor(smaller, "smaller", "bigger", "the same size")
    speed = _factor(faster, "faster", "slower", "as fast")
    measured = [part for part in (size, speed) if part]
    if metric_of(metric).by_teacher:
        beside = ", ".join(
            [*measured, f"{metric_of(metric).label.lower()} {quality(metric, student.metrics[metric].mean)}"]
        )
        return f"{beside}; there are no labels that a control could learn from" if gain is None else beside
    if below_teacher is not None:
        beside = ", ".join([*measured, beside_teacher(metric, below_teacher.mean, below_teacher.interval)])
    else:
        reached = quality(metric, student.metrics[metric].mean, decimals=1)
        unknown = "; the teacher was not evaluated beside it" if student.teacher is not None else ""
        beside = f"{student.name}: {metric} {reached}{unknown}"
    return f"{beside}; {gain_sentence(gain)}"


def gain_sentence(gain: Gain | None) -> str:
    """What the teacher was worth, with its interval, or why nobody can say."""
    if gain is None:
        return "this student has no control, so nothing says what the teacher was worth"
    amount = gain_points(gain)
    if gain.ci95 is None:
        reason = "one seed proves nothing" if len(gain.seeds) == 1 else "too few seeds for an interval"
        return f"with {gain.of} {amount} over the control, but {reason}"
    over = numbered(len(gain.seeds), "seed")
    if gain.shown:
        return f"{gain.of} {'were' if gain.of.endswith('s') else 'was'} worth {amount}"
    if gain.ci95[1] < 0:
        lost = gain_points(gain).lstrip("−")
        return f"{gain.of} did harm: the student is {lost} worse than the same model trained without it"
    return f"no gain from {gain.of} was shown: {amount} over {over}, an interval that includes 0"


def report_headline(
    comparisons: list[Comparison], reached: list[str], runs: list[Run], chosen: list[str], layers: list[str]
) -> str:
    """The sentence on top of the report.

    Args:
        comparisons: every student beside its teacher and control.
        reached: every evaluated model with its quality, in words.
        runs: the runs.
        chosen: the files that were chosen for deployment, in words.
        layers: which layers of a source transfer, in words.
    """
    if len(runs) > 1:
        return f"{numbered(len(runs), 'run')} side by side: {', '.join(run.name for run in runs)}"
    state = _STATES[runs[0].status]
    if comparisons:
        return f"{state}{comparisons[0].headline}"
    if layers:
        return f"{state}{layers[0]}"
    if reached:
        return f"{state}no student has been evaluated; {', '.join(reached[:4])}"
    return f"{state}{chosen[0] if chosen else 'nothing has been evaluated'}"


def _factor(ratio: float | None, above: str, below: str, same: str) -> str | None:
    """``9× smaller``, or the honest opposite."""
    if ratio is None or ratio <= 0:
        return None
    if abs(ratio - 1) <= SAME or abs(1 / ratio - 1) <= SAME:
        return same
    return f"{times(ratio)} {above}" if ratio > 1 else f"{times(1 / ratio)} {below}"


def beside_teacher(metric: str, below: float, interval: tuple[float, float] | None) -> str:
    """How far the student is from its teacher: ``"0.4 points below the teacher"``.

    A student that seems better, but by no more than chance, is only called level with its teacher.

    Args:
        metric: what is compared.
        below: by how much the teacher is better.
        interval: 95 % interval of ``below``, if there is one.
    """
    amount = points(metric, abs(below))
    by_chance = interval is not None and interval[1] >= 0
    if float(amount) == 0 or (below < 0 and by_chance):
        return "level with the teacher"
    places = ("behind", "ahead of") if metric_of(metric).lower_is_better else ("below", "above")
    return f"{amount} {unit(metric, below)} {places[below <= 0]} the teacher"
