"""Sets each student beside its teacher and its control."""

from __future__ import annotations

import statistics

from understudy.report.headline import comparison_headline
from understudy.report.schema import Comparison, Evaluation, Gain, Note, Row, TeacherQuality
from understudy.report.statistics import Difference, difference
from understudy.report.wording import metric_of, points, quality, unit


def comparisons(made: list[Row], evaluations: list[Evaluation]) -> list[Comparison]:
    """One comparison for each student of one run.

    Args:
        made: the run's rows.
        evaluations: its evaluate stages.
    """
    metrics = {evaluation.name: evaluation.metric for evaluation in evaluations}
    return [
        _compare(student, [row for row in made if row.evaluation == student.evaluation], metrics[student.evaluation])
        for student in made
        if student.role == "student" and metrics[student.evaluation] in student.metrics
    ]


def _compare(student: Row, beside: list[Row], metric: str) -> Comparison:
    control = _control_of(student, beside, metric)
    teacher = _teacher_of(student, control, beside, metric)
    result = gain(student, control, metric) if control else None
    smaller = _ratio(teacher, student, "bytes") or _ratio(teacher, student, "params")
    faster = _faster(teacher, student)
    below = _better_by(_by_seed(teacher, metric), _by_seed(student, metric), metric) if teacher else None
    return Comparison(
        run=student.run,
        evaluation=student.evaluation,
        student=student.name,
        teacher=teacher.name if teacher else None,
        control=control.name if control else None,
        headline=comparison_headline(
            smaller=smaller, faster=faster, below_teacher=below, metric=metric, gain=result, student=student
        ),
        smaller=smaller,
        fewer_macs=_ratio(teacher, student, "macs"),
        faster=faster,
        below_teacher=below.mean if below else None,
        below_teacher_ci95=below.interval if below else None,
        teacher_quality=_teacher_quality(teacher, control, metric) if teacher else None,
        gain=result,
    )


def gain(student: Row, control: Row, metric: str) -> Gain | None:
    """What the teacher was worth, by seed: student minus control, or the reverse where lower is better.

    None when nothing can be compared.
    """
    first, second = (_by_seed(row, metric) for row in (student, control))
    found = _better_by(first, second, metric)
    if found is None:
        return None
    common = first.keys() & second.keys()
    return Gain(
        of=control.lacks or "the teacher",
        metric=metric,
        control=statistics.fmean(second[seed] for seed in common or second),
        student=statistics.fmean(first[seed] for seed in common or first),
        difference=found.mean,
        ci95=found.interval,
        seeds=list(found.seeds),
        paired=found.paired,
        values=list(found.values),
        shown=found.interval is not None and found.interval[0] > 0,
    )


def _better_by(first: dict[int, float], second: dict[int, float], metric: str) -> Difference | None:
    """By how much one series of results is better than another."""
    return difference(second, first) if metric_of(metric).lower_is_better else difference(first, second)


def _by_seed(row: Row, metric: str) -> dict[int, float]:
    summary = row.metrics[metric]
    return dict(zip(summary.seeds, summary.values, strict=True))


def _teacher_of(student: Row, control: Row | None, beside: list[Row], metric: str) -> Row | None:
    if student.teacher is None and control is not None and control.lacks is not None:
        return None  # it was taught by itself, or by students beside it
    if student.teacher is None:
        return next((row for row in beside if row.role == "teacher" and metric in row.metrics), None)
    possible = [row for row in beside if row.role in ("teacher", "student") and metric in row.metrics]
    return next((row for row in possible if student.teacher in (row.name, row.stage)), None)


def _control_of(student: Row, beside: list[Row], metric: str) -> Row | None:
    controls = [row for row in beside if row.role == "control" and metric in row.metrics]
    return next((row for row in controls if row.control_of in (student.name, student.stage)), None)


def _teacher_quality(teacher: Row, control: Row | None, metric: str) -> TeacherQuality:
    reached = teacher.metrics[metric]
    sign = -1 if metric_of(metric).lower_is_better else 1
    return TeacherQuality(
        teacher=teacher.name,
        metric=metric,
        mean=reached.mean,
        std=reached.std,
        n=reached.n,
        above_control=sign * (reached.mean - control.metrics[metric].mean) if control else None,
    )


def _ratio(teacher: Row | None, student: Row, field: str) -> float | None:
    if teacher is None:
        return None
    above, below = getattr(teacher, field), getattr(student, field)
    return above / below if above and below else None


def _faster(teacher: Row | None, student: Row) -> float | None:
    """Latency ratio, only of two latencies measured alike."""
    if teacher is None or teacher.latency is None or student.latency is None or different_conditions(teacher, student):
        return None
    return teacher.latency.median_ms / student.latency.median_ms if student.latency.median_ms > 0 else None


def different_conditions(teacher: Row, student: Row) -> bool:
    """Whether two latencies cannot be compared: another batch size, thread count or runtime."""
    first, second = (
        row.latency and (row.latency.batch, row.latency.threads, row.latency.runtime) for row in (teacher, student)
    )
    return None not in (first, second) and first != second


def comparison_notes(comparison: Comparison, made: list[Row]) -> list[Note]:
    """What did not go as hoped in one comparison."""
    rows = {row.name: row for row in made if row.evaluation == comparison.evaluation}
    student, teacher = rows[comparison.student], rows.get(comparison.teacher or "")
    name, texts = repr(comparison.student), []
    if comparison.smaller is not None and comparison.smaller < 1:
        texts.append(f"{name} is bigger than its teacher")
    if comparison.faster is not None and comparison.faster < 1:
        texts.append(f"{name} is slower than its teacher, although that is not what a student is for")
    if teacher and different_conditions(teacher, student):
        texts.append(f"the latencies of {name} and its teacher were measured differently, so they are not compared")
    texts += _teacher_notes(comparison, student) + _gain_notes(comparison)
    return [Note(level="warning", run=comparison.run, text=text) for text in texts]


def _teacher_notes(comparison: Comparison, student: Row) -> list[str]:
    teacher = comparison.teacher_quality
    if teacher is None:
        return [f"the teacher of {comparison.student!r} was not evaluated"] if student.teacher is not None else []
    if teacher.above_control is not None and teacher.above_control <= 0:
        less = f"{points(teacher.metric, -teacher.above_control)} {unit(teacher.metric, teacher.above_control)}"
        place = "behind" if metric_of(teacher.metric).lower_is_better else "below"
        return [
            f"the teacher reaches {quality(teacher.metric, teacher.mean)}, {less} {place} the control: a student "
            "cannot be expected to gain from it; train a better teacher"
        ]
    return []


def _gain_notes(comparison: Comparison) -> list[str]:
    result = comparison.gain
    if (
        result is None
        and comparison.teacher_quality is not None
        and metric_of(comparison.teacher_quality.metric).by_teacher
    ):
        return [
            f"the numbers of {comparison.student!r} say how near it comes to its teacher, not what that was worth: "
            "nobody knows the true answers, so that there is no control"
        ]
    if result is None:
        return [f"{comparison.student!r} has no control (the same model trained without the teacher) to compare with"]
    if result.ci95 is None:
        return ["one seed proves nothing: run three or more (`seeds: [0, 1, 2]`) to see whether the gain is real"]
    if result.ci95[1] < 0:
        return [f"{comparison.student!r} is worse than its control, which had {_missing(result.of)}"]
    if not result.shown:
        moves = "a better teacher moves it" if result.of == "the teacher" else "a longer training moves it"
        return [f"no gain from {result.of} was shown; more seeds narrow the interval, {moves}"]
    return []


def _missing(what: str) -> str:
    """``no teacher``; ``none of`` the rest."""
    return "no teacher" if what == "the teacher" else f"none of {what}"
