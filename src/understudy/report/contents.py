"""What every format shows, as text."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.errors import listing
from understudy.report.schema import Report, Row, Summary
from understudy.report.wording import (
    count,
    metric_of,
    milliseconds,
    numbered,
    quality,
    quality_summary,
    seed_list,
    size,
)

_AGAINST_TEACHER = ("agreement", "kl_from_teacher", "rmse_to_teacher", "spearman_to_teacher")
_BESIDE = ("agreement", "spearman_to_teacher", "nearest", "nearest10")
"""What the table shows beside the headline metric where it is known."""
HEADERS = ("Parameters", "MACs", "Size", "Latency")


def headline_metrics(report: Report) -> list[str]:
    """The metrics that the table shows: the headline of each evaluation, and how far answers are the teacher's."""
    names = [evaluation.metric for run in report.runs for evaluation in run.evaluations]
    names += [name for name in _BESIDE if any(name in row.metrics for row in report.rows)]
    return list(dict.fromkeys(names))


def headers(report: Report) -> list[str]:
    """The heads of the table's columns, after the model's name and role."""
    return [*(metric_of(name).label for name in headline_metrics(report)), *HEADERS]


def cells(report: Report, row: Row) -> list[str]:
    """One row of the table, in the order of :func:`headers`."""
    summaries = [quality_summary(name, shown_metric(row, name)) for name in headline_metrics(report)]
    return [*summaries, count(row.params), count(row.macs), size(row.bytes), milliseconds(row.latency_ms)]


def shown_metric(row: Row, name: str) -> Summary | None:
    """A metric of a row; not the teacher's agreement with itself."""
    return None if name in _AGAINST_TEACHER and row.role == "teacher" else row.metrics.get(name)


def groups(report: Report) -> list[tuple[str, str, list[Row]]]:
    """The rows by run and evaluation."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in report.rows:
        found.setdefault((row.run, row.evaluation), []).append(row)
    return [(run, evaluation, rows) for (run, evaluation), rows in found.items()]


def gained(report: Report) -> str:
    """What students had and their controls lacked: ``the teacher``, in most runs."""
    return " or ".join(dict.fromkeys(each.gain.of for each in report.comparisons if each.gain)) or "the teacher"


def conditions(report: Report) -> list[str]:
    """How qualities and latencies were taken, one sentence each."""
    sentences = []
    for run in report.runs:
        for evaluation in run.evaluations:
            where = f"{run.name}: " if len(report.runs) > 1 else ""
            stage = f" (stage {evaluation.name})" if len(run.evaluations) > 1 else ""
            sentences.append(
                f"{where}{metric_of(evaluation.metric).label} on the {evaluation.split} split, "
                f"{evaluation.samples:,} {evaluation.counted}, {_over(evaluation.seeds)}{stage}."
            )
    return list(dict.fromkeys([*sentences, *_latency_conditions(report), *_simulated(report)]))


def _over(seeds: list[int]) -> str:
    several = f"mean ± standard deviation over {seed_list(seeds)}"
    return several if len(seeds) > 1 else f"{seed_list(seeds)} only"


def _latency_conditions(report: Report) -> list[str]:
    found = {
        (row.latency.runtime, row.latency.batch, row.latency.threads) for row in report.rows if row.latency is not None
    }
    sentences = []
    for runtime, batch, threads in sorted(found, key=str):
        under = [f"batch {batch}", *([numbered(threads, "thread")] if threads else []), *([runtime] if runtime else [])]
        sentences.append(f"Latency: median of one call, {', '.join(under)}.")
    return sentences


def _simulated(report: Report) -> list[str]:
    names = dict.fromkeys(row.name for row in report.rows if row.precision is not None)
    if not names:
        return []
    return [f"PyTorch computes {listing(list(names))} in float: size and latency of int8 are those of the files."]


def labelled(report: Report) -> list[tuple[str, str]]:
    """What exactly was labelled, by stage; seeds that say the same are put together."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for run in report.runs:
        for stage in run.stages:
            if stage.data and stage.kind != "evaluate":
                found.setdefault((run.name, stage.name, stage.data), []).append(stage.seed)
    several = len(report.runs) > 1
    same = {(run, name) for run, name, _ in found if sum(key[:2] == (run, name) for key in found) == 1}
    return [
        (
            (f"{run}: {name}" if several else name) + ("" if (run, name) in same else f" ({seed_list(seeds)})"),
            data,
        )
        for (run, name, data), seeds in found.items()
    ]


def machine(environment: dict[str, object]) -> list[tuple[str, str]]:
    """The environment as pairs of name and text; the packages on one line, what is unknown left out."""
    pairs = []
    for name, value in environment.items():
        if name == "schema" or value in (None, "", {}):
            continue
        if isinstance(value, dict):
            text = ", ".join(f"{key} {item}" for key, item in value.items())
        elif name.endswith("_bytes") and isinstance(value, int | float):
            name, text = name.removesuffix("_bytes"), size(value)
        else:
            text = str(value)
        pairs.append((name.replace("_", " "), text))
    return pairs


@dataclass(frozen=True)
class MetricLine:
    """One metric of all models of an evaluation: name, then mean and seeds for each model."""

    name: str
    cells: list[tuple[str, list[str]]]


def metric_lines(rows: list[Row]) -> list[MetricLine]:
    """Everything that was measured of the models of one evaluation, a line for each metric.

    Args:
        rows: the models, in the order of the columns.
    """
    lines = []
    last = [row.model_copy(update={"metrics": row.last_metrics}) for row in rows]
    for models, suffix in ((rows, ""), (last, ", weights of the last step")):
        names = dict.fromkeys(name for row in models for name in row.metrics if name != "samples")
        for name in names:
            found = [shown_metric(row, name) for row in models]
            made = [(quality_summary(name, one), _each(name, one, rows)) for one in found]
            lines.append(MetricLine(metric_of(name).label + suffix, made))
    costs = (
        (
            "Latency, nine calls in ten within",
            [milliseconds(row.latency.p90_ms if row.latency else None) for row in rows],
        ),
        ("Throughput", [_throughput(row) for row in rows]),
        ("Peak memory", [size(row.peak_memory_bytes) for row in rows]),
    )
    lines += [MetricLine(name, [(text, []) for text in texts]) for name, texts in costs if set(texts) != {"–"}]
    return lines


def _each(name: str, summary: Summary | None, rows: list[Row]) -> list[str]:
    """The value of each seed; with the seed where some are missing."""
    if summary is None or summary.n < 2:
        return []
    seeds = {seed for row in rows for found in row.metrics.values() for seed in found.seeds}
    pairs = zip(summary.seeds, summary.values, strict=True)
    return [
        quality(name, value) if len(seeds) == summary.n else f"seed {seed}: {quality(name, value)}"
        for seed, value in pairs
    ]


def _throughput(row: Row) -> str:
    if not row.throughput:
        return "–"
    return f"{count(row.throughput)} {'' if row.counted == 'samples' else f'{row.counted} '}/s"
