"""How good, fast and big exported files are, in every runtime that is installed, beside the models they came from."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from understudy.errors import InputError, RunError, UnderstudyError, listing, nearest
from understudy.files import neighbours
from understudy.measure.apart import COMPILED, EAGER, AnsweredApart, Apart, TimedApart, write_inputs
from understudy.measure.candidates import SIMULATED, Candidate, Measured, files_of, is_model, is_simulated
from understudy.measure.latency import P99_CALLS, Latency, summarised, take_turns
from understudy.measure.quality import predict, quality
from understudy.runtimes import RUNTIMES, Card, runtimes_for
from understudy.sources.artifact_record import locate_artifact, read_record
from understudy.sources.forward import resized
from understudy.sources.loader import Loader
from understudy.tasks.task import Task


def measure_files(
    candidates: Sequence[Candidate],
    *,
    loaders: Mapping[str, Loader],
    task: Task,
    classes: Sequence[str],
    runtimes: Sequence[str] | None = None,
    compiled: bool = True,
    batch_sizes: Sequence[int] = (1, 8, 32),
    threads: Sequence[int] | None = None,
    seconds: float = 1.0,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Measured]:
    """Measure every candidate in every runtime that takes it: its quality, and in turns with all others its speed.

    Each runs in a process of its own; one that crashes there, or cannot be opened, has failed, and says why. Samples
    are real ones. In batches of 1, 200 calls are timed at least, for the slowest one in a hundred, as far as these take
    no more than ten times ``seconds``; at other batch sizes five.

    Args:
        candidates: files and saved models.
        loaders: labelled splits by name, on which quality is measured.
        task: how a model is called, and the metrics.
        classes: names of the classes of the data, in order.
        runtimes: those that are tried; all that are installed, when not given.
        compiled: whether ``torch.compile``, which takes up to a minute for each, runs saved models too, but for
            candidates that say otherwise.
        batch_sizes: samples per call.
        threads: CPU threads; one, and as many as there are cores, when not given.
        seconds: for which each is timed, in each batch size and number of threads.
        tell: told what is done and how long it takes.

    Returns:
        A row for each candidate and runtime, in their order; also for a runtime that is not installed, saying so.

    Raises:
        InputError: for a file that is not there or that no runtime takes, a runtime that was asked for and is not
            installed, or data without labels.
    """
    threads = tuple(dict.fromkeys(threads or (1, cores())))
    batch_sizes = tuple(dict.fromkeys(batch_sizes))
    _check(candidates, loaders, runtimes, (*threads, *batch_sizes), seconds)
    contests = [
        _Contest(candidate, runtime, failed)
        for candidate in candidates
        for runtime, failed in _runtimes(candidate, runtimes, compiled).items()
    ]
    running = sum(contest.failed is None for contest in contests)
    least = running * len(threads) * len(batch_sizes) * seconds
    tell(f"measuring {len(candidates)} candidates in {running} ways; timing takes about {least:.0f} s of it")
    with tempfile.TemporaryDirectory(prefix="understudy-", ignore_cleanup_errors=True) as folder:
        scratch = Path(folder)
        inputs = next(iter(next(iter(loaders.values())))).inputs
        write_inputs(resized(inputs, max(*batch_sizes, 2)), scratch / "inputs.safetensors")
        for count in sorted(threads, reverse=True):
            with _opened(contests, count, scratch) as opened:
                for contest, apart in opened if count == max(threads) else ():
                    tell(f"{contest.candidate.name} in {contest.runtime}: quality")
                    _judge(contest, apart, contests, loaders, task, classes)
                for batch in batch_sizes:
                    tell(f"timing batches of {batch} with {count} thread{'s' if count > 1 else ''}")
                    _time(opened, batch=batch, threads=count, seconds=seconds)
    return [contest.measured() for contest in contests]


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@dataclass
class _Contest:
    """One candidate in one runtime, while it is measured."""

    candidate: Candidate
    runtime: str
    failed: str | None
    card: Card | None = None
    bytes: int | None = None
    peak_bytes: int | None = None
    quality: dict[str, dict[str, float]] = field(default_factory=dict)
    timings: list[Latency] = field(default_factory=list)

    def measured(self) -> Measured:
        return Measured(
            name=self.candidate.name,
            runtime=self.runtime,
            path=str(self.candidate.path),
            before=self.candidate.before,
            proved=self.candidate.proved,
            precision=self._precision(),
            bytes=self.bytes,
            macs=self.candidate.macs,
            params=self.candidate.params,
            peak_memory_bytes=self.peak_bytes,
            quality=self.quality,
            timings=tuple(sorted(self.timings, key=lambda timing: (timing.batch, timing.threads))),
            failed=self.failed,
        )

    def _precision(self) -> str | None:
        if is_model(self.candidate.path):
            return SIMULATED if is_simulated(self.candidate.path) else None
        return self.card.precision if self.card is not None else None


def _check(
    candidates: Sequence[Candidate],
    loaders: Mapping[str, Loader],
    runtimes: Sequence[str] | None,
    counts: Sequence[int],
    seconds: float,
) -> None:
    names = [candidate.name for candidate in candidates]
    if not names or len(set(names)) < len(names):
        raise InputError(f"expected one or more candidates with different names, got {listing(names) or 'none'}")
    if min(counts) < 1 or seconds <= 0:
        raise InputError("expected batch sizes and threads of one or more, and a time above zero")
    for name, loader in loaders.items():
        if not loader.split.labelled:
            raise InputError(f"no sample of the {name} split has a label, so no file's quality can be measured on it")
    for candidate in candidates:
        if not candidate.path.exists():
            beside = nearest(candidate.path.name, neighbours(candidate.path))
            raise InputError(f"there is no file {str(candidate.path)!r}{beside}")
        if is_model(candidate.path):
            read_record(*locate_artifact(candidate.path))
    able = [runtimes_for(candidate.path) for candidate in candidates if not is_model(candidate.path)]
    for runtime in runtimes or ():
        if runtime not in RUNTIMES:
            raise InputError(
                f"there is no runtime {runtime!r}{nearest(runtime, RUNTIMES) or f'; {listing([*RUNTIMES])}'}"
            )
        if not any(runtime in found for found in able):
            raise InputError(f"runtime {runtime!r} executes none of {listing(names)}")
        if missing := next((found[runtime] for found in able if found.get(runtime)), None):
            raise InputError(f"runtime {runtime!r}: {missing}")


def _runtimes(candidate: Candidate, wanted: Sequence[str] | None, compiled: bool) -> dict[str, str | None]:
    """In what a candidate is run, with why it cannot be."""
    if is_model(candidate.path):
        return {EAGER: None, **({COMPILED: None} if compiled and candidate.compiled else {})}
    able = runtimes_for(candidate.path)
    return {name: missing for name, missing in able.items() if wanted is None or name in wanted}


@contextmanager
def _opened(contests: Sequence[_Contest], threads: int, scratch: Path) -> Iterator[list[tuple[_Contest, Apart]]]:
    """All that has not failed, each in its process."""
    with ExitStack() as ends:
        begun: list[tuple[_Contest, Apart]] = []
        for contest in contests:
            if contest.failed is None:
                inputs, path = scratch / "inputs.safetensors", contest.candidate.path
                apart = Apart(path, runtime=contest.runtime, threads=threads, inputs=inputs, scratch=scratch)
                ends.callback(apart.close)
                begun.append((contest, apart))
        opened = []
        for contest, apart in begun:
            try:
                contest.bytes = sum(file.stat().st_size for file in files_of(contest.candidate.path))
                about = apart.opened()
            except (UnderstudyError, OSError) as error:
                contest.failed = str(error)
                continue
            if contest.peak_bytes is None:
                contest.peak_bytes = about["peak_bytes"]
            contest.card = Card.model_validate(about["card"]) if about["card"] else None
            opened.append((contest, apart))
        yield opened


def _judge(
    contest: _Contest,
    apart: Apart,
    contests: Sequence[_Contest],
    loaders: Mapping[str, Loader],
    task: Task,
    classes: Sequence[str],
) -> None:
    """Measure its quality; compiled, a model is as good as it is."""
    if contest.runtime == COMPILED:
        eager = next(each for each in contests if each.candidate is contest.candidate and each.runtime == EAGER)
        contest.quality, contest.failed = eager.quality, eager.failed
        return
    try:
        own = _own_classes(contest)
        if own is not None and own != tuple(classes):
            raise InputError(_other_classes(own, tuple(classes)))
        contest.quality = {
            split: _quality(AnsweredApart(apart), loader, task, len(classes)) for split, loader in loaders.items()
        }
    except UnderstudyError as error:
        contest.failed = str(error)


def _own_classes(contest: _Contest) -> tuple[str, ...] | None:
    if is_model(contest.candidate.path):
        return read_record(*locate_artifact(contest.candidate.path)).classes
    return contest.card.classes if contest.card is not None else None


def _other_classes(own: tuple[str, ...], data: tuple[str, ...]) -> str:
    if sorted(own) == sorted(data):
        return f"it has the data's classes in another order: {listing(list(own))}, the data's are {listing(list(data))}"
    return (
        f"it was made for {len(own)} classes ({listing(list(own))}), the data have {len(data)} ({listing(list(data))})"
    )


def _quality(model: AnsweredApart, loader: Loader, task: Task, classes: int) -> dict[str, float]:
    predictions = predict(model, loader, task)
    if predictions.logits.shape[-1] != classes:
        raise InputError(f"it answers with {predictions.logits.shape[-1]} classes, the data have {classes}")
    if not predictions.logits.isfinite().all():
        raise RunError("some of its answers are not finite numbers")
    return {name: value for name, value in quality(predictions, task).items() if math.isfinite(value)}


def _time(opened: Sequence[tuple[_Contest, Apart]], *, batch: int, threads: int, seconds: float) -> None:
    """Time in turns all that still run; what takes no such batch is left out."""
    timed = [(contest, apart, TimedApart(apart, batch=batch)) for contest, apart in opened if contest.failed is None]
    take_turns([one for _, _, one in timed], seconds=seconds, calls=P99_CALLS if batch == 1 else 0)
    for contest, apart, one in timed:
        if one.failure is None:
            contest.timings.append(summarised(one.times, batch=batch, threads=threads, runtime=contest.runtime))
        elif apart.failure is not None:
            contest.failed = f"in batches of {batch}: {one.failure}"
