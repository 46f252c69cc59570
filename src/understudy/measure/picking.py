"""Which of the measured files to deploy."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, final

from understudy.errors import InputError, RunError
from understudy.measure.candidates import SIMULATED, Measured, files_of
from understudy.spec import Spec
from understudy.targets import Limit, Measure, shown_cost

Aim = Literal["latency", "throughput", "bytes"]
"""What the best file has: the shortest latency, the highest throughput, or the fewest bytes."""
PROOF = ".proof.json"
"""What follows a file's name in that of its proof."""
SAME = 0.05
"""Times and sizes within 5 % of each other are the same."""
_COSTS: dict[Aim, Callable[[Measured], float | None]] = {
    "latency": lambda row: row.latency.median_ms if row.latency is not None else None,
    "throughput": lambda row: 1000.0 / row.throughput if row.throughput else None,
    "bytes": lambda row: row.bytes,
}
_LIMITED: dict[Measure, Callable[[Measured], float | None]] = {
    "latency": _COSTS["latency"],
    "bytes": _COSTS["bytes"],
    "macs": lambda row: row.macs,
    "params": lambda row: row.params,
}
_BEST: dict[Aim, str] = {"latency": "fastest", "throughput": "one of the highest throughput", "bytes": "smallest"}


@final
class Choice(Spec):
    """The file that was chosen, and why."""

    name: str
    """Of the candidate."""
    runtime: str
    """What is to execute it."""
    kept: bool
    """Whether it keeps the bound on quality; where none does, it is the nearest."""
    met: bool
    """Whether it costs no more than the target allows; true where there is none."""
    drop: float
    """How many points it is below the reference on the split that decides; below 0 it is better."""
    text: str
    """The choice in one sentence."""
    notes: tuple[str, ...]
    """Where a step made things slower or not smaller, and what could not be measured."""


def pick(
    measured: Sequence[Measured],
    *,
    reference: Measured,
    max_drop: float,
    metric: str = "accuracy",
    split: str = "validation",
    by: Aim = "latency",
    target: Sequence[Limit] = (),
) -> Choice:
    r"""The best file among those that keep the bound on quality, and cost no more than the target allows.

    Where none keeps the bound, it is the nearest in quality; where none of those that do meets the target, the nearest
    to the target.

    A drop is counted in points, hundredths of the metric: :math:`100\,(q_{reference} - q_{file})`.

    Args:
        measured: what :func:`understudy.measure.measure_files` gave. Saved models are compared with, and chosen only
            where there is no file.
        reference: whose quality counts.
        max_drop: how many points a file may be below it.
        metric: of the quality; higher is better.
        split: on which it decides. The test split is for reporting.
        by: what is best.
        target: what it may cost, as :func:`understudy.targets.parse_target` reads it.

    Raises:
        InputError: for a negative ``max_drop``, a reference that was not measured, or a limit on what is not known.
        RunError: when no file could be measured; the reason of each is in the error.
    """
    if max_drop < 0:
        raise InputError(f"max_drop is how many points may be lost, got {max_drop:g}; expected 0 or more")
    if split not in reference.quality:
        reason = reference.failed or f"its quality on the {split} split is not known"
        raise InputError(f"the reference {reference.name!r} in {reference.runtime} was not measured: {reason}")
    drops = {id(row): _drop(row, reference, metric, split) for row in measured if _complete(row, split, by)}
    files = [row for row in measured if id(row) in drops and (row.is_file or not _has_files(measured))]
    if not files:
        reasons = "; ".join(f"{row.name} in {row.runtime}: {row.failed}" for row in measured if row.failed)
        raise RunError(f"none of the files could be measured: {reasons or 'no quality or time is known'}")
    kept = [row for row in files if drops[id(row)] <= max_drop + 1e-9]
    excess = {id(row): _excess(row, target) for row in files}
    within = [row for row in kept if excess[id(row)] <= 1.0]
    if within:
        best = min(within, key=lambda row: _COSTS[by](row) or 0.0)
    elif kept:
        best = min(kept, key=lambda row: excess[id(row)])
    else:
        best = min(files, key=lambda row: (drops[id(row)], excess[id(row)]))
    drop, met = drops[id(best)], excess[id(best)] <= 1.0
    return Choice(
        name=best.name,
        runtime=best.runtime,
        kept=bool(kept),
        met=met,
        drop=drop,
        text=_sentence(best, drop, reference, _asked(max_drop, target), by, kept=bool(kept), target=target),
        notes=(*steps_that_did_not_pay(measured), *_beaten(best, measured), *_failures(measured)),
    )


def steps_that_did_not_pay(measured: Sequence[Measured]) -> list[str]:
    """Where a candidate is slower than the one it was made from, in the same runtime, or not smaller, in words.

    Quantized networks in PyTorch are no such step: they only simulate what their file does.
    """
    places = {(row.name, row.runtime): row for row in measured if row.failed is None}
    notes = []
    for row in places.values():
        before = places.get((row.before or "", row.runtime))
        if before is None or row.precision == SIMULATED:
            continue
        now, then = row.latency, before.latency
        if now is not None and then is not None and now.median_ms > (1 + SAME) * then.median_ms:
            notes.append(
                f"{row.name} is {now.median_ms / then.median_ms:.2g}× slower than {before.name}, the step before it, "
                f"in {row.runtime}: {now.median_ms:.3g} ms after {then.median_ms:.3g} ms"
            )
        if row.bytes is not None and before.bytes is not None and row.bytes > (1 - SAME) * before.bytes:
            grown = "bigger than" if row.bytes > (1 + SAME) * before.bytes else "as large as"
            notes.append(
                f"{row.name} is {grown} {before.name}, the step before it: {row.bytes:,} bytes after {before.bytes:,}"
            )
    return list(dict.fromkeys(notes))


def copy_file(measured: Measured, folder: str | Path) -> list[Path]:
    """Copy a measured file with all that belongs to it, its proof included, in place of what is there.

    Args:
        measured: whose file.
        folder: where it goes; it is there as a whole, or as it was before.

    Returns:
        The copies, the file itself first.

    Raises:
        RunError: when the disk does not take it.
    """
    place, source = Path(folder), Path(measured.path)
    files = files_of(source)
    if (proof := proof_of(source)) is not None:
        files.append(proof)
    temporary, aside = (place.with_name(f".{place.name}.{word}.{os.getpid()}") for word in ("new", "old"))
    try:
        temporary.mkdir(parents=True)
        for file in files:
            target = temporary / file.relative_to(files[0].parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        if place.exists():
            place.rename(aside)
        temporary.rename(place)
    except OSError as error:
        raise RunError(f"{source} could not be copied to {place}: {error.strerror or error}") from error
    finally:
        for left in (temporary, aside):
            shutil.rmtree(left, ignore_errors=True)
    return [place / file.relative_to(files[0].parent) for file in files]


def proof_of(path: Path) -> Path | None:
    """The record of how a file's answers were compared with its model's; None where there is none."""
    place = path.with_name(path.name + PROOF)
    return place if place.is_file() else None


def is_proved(path: Path) -> bool:
    """Whether a file has such a record beside it, and it says that they agree."""
    place = proof_of(path)
    try:
        return place is not None and json.loads(place.read_text(encoding="utf-8"))["proved"] is True
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _complete(row: Measured, split: str, by: Aim) -> bool:
    return row.failed is None and split in row.quality and _COSTS[by](row) is not None


def _has_files(measured: Sequence[Measured]) -> bool:
    return any(row.is_file for row in measured)


def _drop(row: Measured, reference: Measured, metric: str, split: str) -> float:
    for each in (row, reference):
        if metric not in each.quality[split]:
            raise InputError(f"{each.name!r} has no {metric!r}; it has {', '.join(each.quality[split])}")
    return 100.0 * (reference.quality[split][metric] - row.quality[split][metric])


def _excess(row: Measured, target: Sequence[Limit]) -> float:
    """How many times too much a row costs; 1 or less where it is within the target."""
    worst = 0.0
    for limit in target:
        cost = _LIMITED[limit.measure](row)
        if cost is None:
            raise InputError(
                f"the target {limit.written!r} cannot be judged: {row.name} does not say its {limit.measure}"
            )
        worst = max(worst, limit.excess(cost))
    return worst


def _asked(max_drop: float, target: Sequence[Limit]) -> str:
    limits = f" and keep to {', '.join(limit.written for limit in target)}" if target else ""
    return f"lose at most {_points(max_drop)}{limits}"


def _sentence(
    best: Measured, drop: float, reference: Measured, asked: str, by: Aim, *, kept: bool, target: Sequence[Limit]
) -> str:
    timed = best.latency
    counts: list[Measure] = [limit.measure for limit in target if limit.measure in ("macs", "params")]
    costs = [f"{shown_cost(measure, _LIMITED[measure](best) or 0.0)} {measure}" for measure in counts]
    shown = [shown_cost("latency", timed.median_ms)] if timed is not None else []
    shown += [f"{best.bytes or 0:,} bytes", *costs]
    place = f"{_points(abs(drop))} {'below' if drop > 0 else 'above'}" if abs(drop) >= 0.005 else "level with"
    what = f"{best.name} in {best.runtime}, {', '.join(shown)}, {place} {reference.name}"
    if kept and _excess(best, target) <= 1.0:
        return f"{what}: the {_BEST[by]} of the files that {asked}"
    return f"no file is known to {asked}; the nearest is {what}"


def _points(amount: float) -> str:
    text = f"{amount:.2f}".rstrip("0").rstrip(".")
    return f"{text} point{'' if text == '1' else 's'}"


def _beaten(best: Measured, measured: Sequence[Measured]) -> list[str]:
    """Saved models that PyTorch executes faster than the chosen file."""
    own = best.latency
    if own is None or not best.is_file:
        return []
    return [
        f"{row.name} in {row.runtime} is faster than the chosen file: {row.latency.median_ms:.3g} ms against "
        f"{own.median_ms:.3g} ms"
        for row in measured
        if not row.is_file and row.latency is not None and row.latency.median_ms < (1 - SAME) * own.median_ms
    ]


def _failures(measured: Sequence[Measured]) -> list[str]:
    return [f"{row.name} in {row.runtime} was not measured: {row.failed}" for row in measured if row.failed]
