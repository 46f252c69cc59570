"""Puts the seeds of each evaluated model together."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from itertools import chain

from understudy.errors import InputError
from understudy.report.evidence import ConfusedPair, Confusion
from understudy.report.records import EvaluationFile, Role, RowFile, RunRecord
from understudy.report.schema import Evaluation, Latency, Row, Summary
from understudy.report.statistics import spread

MOST_CLASSES = 50
"""Beyond so many classes a confusion matrix is not shown cell by cell."""
MOST_PAIRS = 20
_ORDER: tuple[Role, ...] = ("teacher", "student", "control", "model")

Evaluated = dict[str, dict[int, EvaluationFile]]
"""Evaluations by stage name and seed."""


def evaluated(record: RunRecord) -> Evaluated:
    """All evaluations of a run.

    Raises:
        InputError: when the seeds of one evaluation do not measure the same thing.
    """
    found: Evaluated = {}
    for stage in record.stages:
        if stage.evaluation is None:
            continue
        seeds = found.setdefault(stage.name, {})
        seeds[stage.seed] = stage.evaluation
        first = next(iter(seeds.values()))
        for field in ("metric", "split", "classes"):
            expected, received = getattr(first, field), getattr(stage.evaluation, field)
            if expected != received:
                raise InputError(
                    f"{stage.directory / 'evaluation.json'}: {field} is {received!r}, but {expected!r} for another "
                    "seed of the same stage; run the recipe again so that all seeds are evaluated alike"
                )
    return found


def evaluations(found: Evaluated) -> list[Evaluation]:
    """What was evaluated, without the results."""
    return [
        Evaluation(
            name=name,
            split=first.split,
            samples=first.samples,
            counted=first.counted,
            classes=first.classes,
            metric=first.metric,
            seeds=sorted(seeds),
        )
        for name, seeds in found.items()
        for first in [next(iter(seeds.values()))]
    ]


def rows(run: str, found: Evaluated) -> list[Row]:
    """One row for each model and evaluation: teachers, students, controls, others."""
    made = []
    for evaluation, seeds in found.items():
        models = dict.fromkeys((row.name, row.role) for file in seeds.values() for row in file.rows)
        for name, role in sorted(models, key=lambda model: _ORDER.index(model[1])):
            files = {
                seed: row
                for seed, file in sorted(seeds.items())
                for row in file.rows
                if (row.name, row.role) == (name, role)
            }
            counted = next(iter(seeds.values())).counted
            made.append(_row(run, evaluation, _trained_apart(files, role), counted))
    return made


def _trained_apart(files: dict[int, RowFile], role: str) -> dict[int, RowFile]:
    """One training is no repetition, however often it was measured: a student with a seed of its own counts once."""
    trained = {row.seed for row in files.values()}
    if role in ("student", "control") and len(trained) == 1 and None not in trained:
        return dict([next(iter(files.items()))])
    return files


def _row(run: str, evaluation: str, files: dict[int, RowFile], counted: str) -> Row:
    first = next(iter(files.values()))
    latency = _latency(list(files.values()))
    return Row(
        run=run,
        evaluation=evaluation,
        name=first.name,
        role=first.role,
        stage=first.stage,
        architecture=first.architecture,
        precision=first.precision,
        teacher=first.teacher,
        control_of=first.control_of,
        lacks=first.lacks,
        metrics=_summaries({seed: row.metrics for seed, row in files.items()}),
        last_metrics=_summaries({seed: row.last_metrics or {} for seed, row in files.items()}),
        params=_whole(row.params for row in files.values()),
        macs=_whole(row.macs for row in files.values()),
        bytes=_whole(row.bytes for row in files.values()),
        latency_ms=latency.median_ms if latency else None,
        latency=latency,
        throughput=_median(row.throughput for row in files.values()),
        counted=counted,
        peak_memory_bytes=_whole(row.peak_memory_bytes for row in files.values()),
    )


def _summaries(results: dict[int, dict[str, float | None]]) -> dict[str, Summary]:
    names = dict.fromkeys(chain.from_iterable(results.values()))
    made = {}
    for name in names:
        values = {seed: result.get(name) for seed, result in results.items()}
        finite = {seed: value for seed, value in values.items() if value is not None and math.isfinite(value)}
        if finite:
            made[name] = summary(finite)
    return made


def summary(values: dict[int, float]) -> Summary:
    """One number over the seeds."""
    numbers = list(values.values())
    return Summary(
        mean=statistics.fmean(numbers), std=spread(numbers), n=len(numbers), values=numbers, seeds=list(values)
    )


def _latency(files: Sequence[RowFile]) -> Latency | None:
    measured = [row.latency_ms for row in files if row.latency_ms is not None]
    median = _median(latency.median for latency in measured)
    if median is None:
        return None
    first = measured[0]
    return Latency(
        median_ms=median,
        p90_ms=_median(latency.p90 for latency in measured),
        batch=first.batch,
        threads=first.threads,
        runtime=first.runtime,
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _whole(values: Iterable[int | None]) -> int | None:
    median = _median(values)
    return None if median is None else round(median)


def confusions(run: str, found: Evaluated, made: list[Row]) -> list[Confusion]:
    """Who takes what for what, summed over the seeds, in the order of the rows."""
    result = []
    for row in made:
        seeds = {seed: file for seed, file in sorted(found[row.evaluation].items()) if row.name in file.confusion}
        if not seeds:
            continue
        classes = next(iter(seeds.values())).classes
        counts = _summed([file.confusion[row.name] for file in seeds.values()], classes, row)
        result.append(
            Confusion(
                run=run,
                evaluation=row.evaluation,
                name=row.name,
                role=row.role,
                classes=classes,
                seeds=list(seeds),
                counts=counts if len(classes) <= MOST_CLASSES else None,
                pairs=_pairs(counts, classes),
            )
        )
    return result


def _summed(matrices: list[list[list[int]]], classes: list[str], row: Row) -> list[list[int]]:
    for matrix in matrices:
        if {len(matrix), *map(len, matrix)} != {len(classes)}:
            raise InputError(
                f"the confusion matrix of {row.name!r} in stage {row.evaluation!r} of run {row.run!r} has "
                f"{len(matrix)} rows; expected one row and one column for each of the {len(classes)} classes"
            )
    return [[sum(cells) for cells in zip(*lines, strict=True)] for lines in zip(*matrices, strict=True)]


def _pairs(counts: list[list[int]], classes: list[str]) -> list[ConfusedPair]:
    mistakes = [
        (count, label, predicted)
        for label, line in enumerate(counts)
        for predicted, count in enumerate(line)
        if label != predicted and count
    ]
    mistakes.sort(key=lambda mistake: (-mistake[0], mistake[1], mistake[2]))
    return [
        ConfusedPair(label=classes[label], predicted=classes[predicted], count=count)
        for count, label, predicted in mistakes[:MOST_PAIRS]
    ]
