"""What deploy stages have found, and how it reads in a table."""

from __future__ import annotations

import os

from understudy.report.deployed import Contender, Deployment, Timed
from understudy.report.records import DeployedRow, DeploymentFile, RunRecord, StageRecord
from understudy.report.schema import Note
from understudy.report.wording import count, metric_of, milliseconds, quality, size

HEADERS = ("Size", "Latency", "p99", "Throughput", "Memory")
_PROVED = {True: "yes", False: "no", None: "–"}
_NONE = "no file was chosen, since none could be measured"


def deployments(record: RunRecord, run: str) -> list[Deployment]:
    """Every deploy stage and seed of a run."""
    return [
        _deployment(stage, stage.deployment, run, record) for stage in record.stages if stage.deployment is not None
    ]


def deployment_notes(record: RunRecord, run: str) -> list[Note]:
    """Where a step made things slower or not smaller, where the bound was not kept, and what was not measured."""
    found = [stage.deployment for stage in record.stages if stage.deployment is not None]
    texts = [
        text
        for each in found
        for text in (
            [_NONE]
            if each.choice is None
            else [*([] if each.choice.kept and each.choice.met else [each.choice.text]), *each.choice.notes]
        )
    ]
    return [Note(level="warning", run=run, text=text) for text in dict.fromkeys(texts)]


def advice(deployment: Deployment) -> str:
    """What to deploy, in one sentence."""
    return f"deploy {deployment.text}" if deployment.kept and deployment.met else deployment.text


def deployment_headers(deployment: Deployment) -> list[str]:
    """The heads of the columns after file, runtime, what it came from, and whether it was proved."""
    label = metric_of(deployment.metric).label
    return [f"{label}, {deployment.decided_on}", f"{label}, test", *HEADERS]


def deployment_cells(deployment: Deployment, contender: Contender) -> list[str]:
    """One row of the table, in the order of :func:`deployment_headers`."""
    timed = contender.latency
    return [
        quality(deployment.metric, contender.decided),
        quality(deployment.metric, contender.reported),
        size(contender.bytes),
        milliseconds(timed.median_ms if timed else None),
        milliseconds(timed.p99_ms if timed else None),
        f"{count(contender.throughput)} /s" if contender.throughput else "–",
        size(contender.peak_memory_bytes),
    ]


def origin(contender: Contender) -> str:
    """What it was made from, and in which numbers it works."""
    return ", ".join(part for part in (contender.before, contender.precision) if part) or "–"


def proved(contender: Contender) -> str:
    """Whether it was compared with its model."""
    return _PROVED[contender.proved]


def deployment_conditions(deployment: Deployment) -> str:
    """How everything was measured, in one sentence or two."""
    threads = sorted({timed.threads for each in deployment.contenders for timed in each.timings})
    batches = sorted({timed.batch for each in deployment.contenders for timed in each.timings})
    over = f"batches of {', '.join(map(str, batches))} and {', '.join(map(str, threads))} threads"
    bound = f"{deployment.max_drop:g} points below {deployment.reference}"
    return (
        "Each in a process of its own, timed in turns. Latency: one sample, with the number of threads that is "
        f"fastest; throughput: the best of {over}. Memory: what opening and running it once has added. The bound, "
        f"{bound}, is judged on the {deployment.decided_on} split; the test split is reported."
    )


def _deployment(stage: StageRecord, found: DeploymentFile, run: str, record: RunRecord) -> Deployment:
    folder = stage.directory.relative_to(record.directory)
    choice = found.choice
    return Deployment(
        run=run,
        stage=stage.name,
        seed=stage.seed,
        metric=found.metric,
        decided_on=found.decided_on,
        reference=found.reference,
        max_drop=found.max_drop,
        by=found.by,
        target=found.target,
        kept=choice.kept if choice is not None else None,
        met=choice.met if choice is not None else None,
        text=choice.text if choice is not None else _NONE,
        file=(folder / found.file).as_posix() if found.file is not None else None,
        contenders=[
            _contender(
                row,
                found,
                path=os.path.normpath(folder / row.path).replace(os.sep, "/"),
                chosen=choice is not None and (choice.name, choice.runtime) == (row.name, row.runtime),
            )
            for row in found.rows
        ],
    )


def _contender(row: DeployedRow, found: DeploymentFile, *, path: str, chosen: bool) -> Contender:
    timings = [Timed(**timing.model_dump()) for timing in row.timings]
    smallest = min((timing.batch for timing in timings), default=0)
    alone = [timing for timing in timings if timing.batch == smallest]
    return Contender(
        name=row.name,
        runtime=row.runtime,
        path=path,
        before=row.before,
        precision=row.precision,
        proved=row.proved,
        decided=row.quality.get(found.decided_on, {}).get(found.metric),
        reported=row.quality.get("test", {}).get(found.metric),
        bytes=row.bytes,
        macs=row.macs,
        peak_memory_bytes=row.peak_memory_bytes,
        latency=min(alone, key=lambda timing: timing.median_ms) if alone else None,
        throughput=max((1000.0 * timing.batch / timing.median_ms for timing in timings), default=None),
        timings=timings,
        chosen=chosen,
        failed=row.failed,
    )
