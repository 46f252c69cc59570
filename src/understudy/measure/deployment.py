"""From exported files to the one that is deployed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, final

from pydantic import Field

from understudy.errors import InputError, RunError, listing
from understudy.files import replacing
from understudy.measure.candidates import Candidate, Measured
from understudy.measure.files import measure_files
from understudy.measure.picking import Aim, Choice, copy_file, pick
from understudy.sources.loader import Loader
from understudy.spec import Spec
from understudy.targets import parse_target
from understudy.tasks.task import Task

RECORD, CHOSEN = "deployment.json", "chosen"
"""What a deployment leaves in its folder."""


@final
class Deployment(Spec):
    """The content of ``deployment.json``."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    metric: str
    """What quality is; higher is better."""
    decided_on: str
    """The split on which the bound is judged."""
    reference: str
    """The candidate whose quality counts."""
    max_drop: float
    """How many points a file may be below it."""
    by: Aim
    """What the best file has."""
    target: str | None = None
    """What it may cost."""
    seconds: float
    """How long each candidate was timed, in each batch size and number of threads."""
    rows: tuple[Measured, ...]
    """Every candidate in every runtime."""
    choice: Choice | None
    """The file that was chosen; None where none could be measured."""
    file: str | None
    """The copy of it, from where the record lies."""


def deploy(
    candidates: Sequence[Candidate],
    folder: str | Path,
    *,
    reference: str,
    loaders: Mapping[str, Loader],
    task: Task,
    classes: Sequence[str],
    max_drop: float = 1.0,
    by: Aim = "latency",
    target: str | None = None,
    runtimes: Sequence[str] | None = None,
    compiled: bool = True,
    batch_sizes: Sequence[int] = (1, 8, 32),
    threads: Sequence[int] | None = None,
    seconds: float = 1.0,
    tell: Callable[[str], None] = lambda _: None,
) -> Deployment:
    """Measure files, pick the best one that keeps the bound on quality, and leave a copy of it in ``chosen/``.

    Args:
        candidates: files, and saved models to compare with.
        folder: where ``deployment.json`` and ``chosen/`` go.
        reference: the name of the candidate whose quality counts.
        loaders: labelled splits by name; the bound is judged on the first one, the others are reported.
        task: how a model is called, and the metric.
        classes: names of the classes of the data, in order.
        max_drop: how many points, hundredths of the metric, may be lost.
        by: what is best.
        target: what the file may cost, such as ``latency<2ms, size<4MB``; see :func:`understudy.targets.parse_target`.
        runtimes: see :func:`understudy.measure.measure_files`, also for the others.
        compiled: whether saved models are also compiled.
        batch_sizes: samples per call.
        threads: CPU threads.
        seconds: for which each is timed.
        tell: told what is done.

    Raises:
        InputError: for files, data, a runtime or a folder that cannot work; nothing was measured.
        RunError: when no file could be measured, or the disk does not take the copy. What was measured is recorded.
    """
    folder, limits = Path(folder), parse_target(target) if target is not None else ()
    _check([candidate.name for candidate in candidates], reference, max_drop, folder)
    rows = measure_files(
        candidates,
        loaders=loaders,
        task=task,
        classes=classes,
        runtimes=runtimes,
        compiled=compiled,
        batch_sizes=batch_sizes,
        threads=threads,
        seconds=seconds,
        tell=tell,
    )
    found = Deployment(
        metric=task.metric,
        decided_on=next(iter(loaders)),
        reference=reference,
        max_drop=max_drop,
        by=by,
        target=target,
        seconds=seconds,
        rows=tuple(rows),
        choice=None,
        file=None,
    )
    _write(found, folder)
    choice = pick(
        rows,
        reference=_of(reference, rows),
        max_drop=max_drop,
        metric=task.metric,
        split=found.decided_on,
        by=by,
        target=limits,
    )
    best = next(row for row in rows if (row.name, row.runtime) == (choice.name, choice.runtime))
    copy = copy_file(best, folder / CHOSEN)[0].relative_to(folder)
    return _write(found.model_copy(update={"choice": choice, "file": copy.as_posix()}), folder)


def _of(reference: str, rows: Sequence[Measured]) -> Measured:
    """The reference where it is best: the first of its runtimes that could be measured."""
    own = [row for row in rows if row.name == reference]
    return next((row for row in own if row.failed is None), own[0])


def _check(names: Sequence[str], reference: str, max_drop: float, folder: Path) -> None:
    if reference not in names or max_drop < 0:
        raise InputError(
            f"expected a reference out of {listing(names) or 'no candidates'}, and a max_drop of 0 points or more; got "
            f"{reference!r} and {max_drop:g}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / ".writable") as temporary:
            temporary.touch()
        (folder / ".writable").unlink()
    except (OSError, RunError) as error:
        raise InputError(f"{folder} does not take files ({error}); choose another folder") from error


def _write(found: Deployment, folder: Path) -> Deployment:
    """Write the record; its paths lead from where it lies, so that a folder that is moved as a whole stays true."""
    rows = [row.model_copy(update={"path": _from(folder, row.path)}) for row in found.rows]
    text = found.model_copy(update={"rows": tuple(rows)}).model_dump_json(indent=1, by_alias=True)
    with replacing(folder / RECORD) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return found


def _from(folder: Path, path: str) -> str:
    return Path(os.path.relpath(Path(path).resolve(), folder.resolve())).as_posix()
