"""How long a model takes on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np
import torch
from torch import nn

from understudy.errors import InputError, listing
from understudy.runtimes import DeployedModel
from understudy.sources.forward import call, device_of, evaluating, moved, resized
from understudy.taps import is_compiled

P99_CALLS = 200
"""With fewer calls nothing is said about one in a hundred of them."""
_FEWEST_RUNS = 5
_MOST_TIMES = 10
"""Where more than the fewest calls are asked for, how many times longer than asked they may take."""
_WARM_UP_CALLS = 3
_WARM_UP_SHARE = 0.1
_BLOCK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one call takes, and under which conditions.

    Attributes:
        median_ms: half of the calls were faster.
        p90_ms: nine of ten calls were faster.
        p99_ms: 99 of a hundred calls were faster; None where fewer than :data:`P99_CALLS` were timed.
        batch: samples per call.
        threads: CPU threads that torch used, or a file's runtime was opened with.
        runtime: what ran the model, and the device if it is not the CPU.
        runs: number of calls that were timed.
    """

    median_ms: float
    p90_ms: float
    p99_ms: float | None
    batch: int
    threads: int
    runtime: str
    runs: int


def latency(
    model: nn.Module, inputs: Any, *, batch: int = 1, threads: int | None = None, seconds: float = 1.0
) -> Latency:
    """Time single calls of a model, after a warm-up, in eval mode and without gradients.

    Args:
        model: as it shall be timed (compiled, in its memory format, on its device); it is left as it was.
        inputs: an example batch's inputs; samples are repeated when there are fewer than ``batch``.
        batch: samples per call.
        threads: CPU threads for torch, None for as many as it uses now; restored afterwards.
        seconds: how long to measure; at least five calls are timed, however long they take.

    Raises:
        InputError: for a batch or a number of threads below one.
    """
    return compare_latency([("model", model)], inputs, batch=batch, threads=threads, seconds=seconds)["model"]


def compare_latency(
    models: Sequence[tuple[str, nn.Module]],
    inputs: Any,
    *,
    batch: int = 1,
    threads: int | None = None,
    seconds: float = 1.0,
    calls: int = _FEWEST_RUNS,
) -> dict[str, Latency]:
    """Time several models in turns, so that whatever else the machine does meets all of them alike.

    Each turn is a short block of calls, so that a small model is not timed with a cache that a big one has filled.

    Args:
        models: names and models; see :func:`latency`.
        inputs: an example batch's inputs, the same for all.
        batch: samples per call.
        threads: CPU threads for torch, None for as many as it uses now; restored afterwards.
        seconds: how long to measure each model.
        calls: how many calls to time at least, as far as they take no more than ten times as long as that.

    Returns:
        The latency of each model, by name, in the given order.

    Raises:
        InputError: for no model, two of one name, or a batch or a number of threads below one.
    """
    names = [name for name, _ in models]
    if not names or len(set(names)) < len(names):
        raise InputError(f"expected one or more models with different names, got {listing(names) or 'none'}")
    with _threads(threads) as used, torch.inference_mode():
        runners = [CalledInTurns(model, resized(inputs, batch)) for _, model in models]
        take_turns(runners, seconds=seconds, calls=calls)
    return {
        name: summarised(runner.times, batch=batch, threads=used, runtime=runtime_of(model))
        for (name, model), runner in zip(models, runners, strict=True)
    }


class InTurns(Protocol):
    """What is timed in turns with others, wherever it runs."""

    def warm_up(self, seconds: float) -> None:
        """Run untimed for about so long, and find how many calls make a block."""
        ...

    def run_block(self) -> None:
        """Time one block of calls."""
        ...

    def done(self, seconds: float, calls: int) -> bool:
        """Whether enough was measured."""
        ...


def take_turns(contenders: Sequence[InTurns], *, seconds: float, calls: int = _FEWEST_RUNS) -> None:
    """Warm all up, then time a block of each in turn until all are done.

    Args:
        contenders: what is timed.
        seconds: how long to measure each.
        calls: how many calls to time at least; see :func:`compare_latency`.
    """
    for contender in contenders:
        contender.warm_up(_WARM_UP_SHARE * seconds)
    waiting = [contender for contender in contenders if not contender.done(seconds, calls)]
    while waiting:
        for contender in waiting:
            contender.run_block()
        waiting = [contender for contender in waiting if not contender.done(seconds, calls)]


def enough(times: Sequence[float], *, seconds: float, calls: int) -> bool:
    """Whether so many calls are enough.

    Args:
        times: of each call, in seconds.
        seconds: how long to measure.
        calls: how many calls to time at least; see :func:`compare_latency`.
    """
    spent = sum(times)
    return spent >= seconds and len(times) >= _FEWEST_RUNS and (len(times) >= calls or spent >= _MOST_TIMES * seconds)


def summarised(times: Sequence[float], *, batch: int, threads: int, runtime: str) -> Latency:
    """The statistics of timed calls.

    Args:
        times: of each call, in seconds.
        batch: samples per call.
        threads: CPU threads.
        runtime: what ran them.
    """
    median, p90, p99 = (1000.0 * float(value) for value in np.quantile(times, (0.5, 0.9, 0.99)))
    return Latency(median, p90, p99 if len(times) >= P99_CALLS else None, batch, threads, runtime, len(times))


def throughput(
    model: nn.Module, inputs: Any, *, batch: int = 128, threads: int | None = None, seconds: float = 1.0
) -> float:
    """Samples per second at a batch size, from the median call.

    Args:
        model: see :func:`latency`.
        inputs: an example batch's inputs.
        batch: samples per call.
        threads: CPU threads for torch, None for as many as it uses now; restored afterwards.
        seconds: how long to measure.

    Raises:
        InputError: for a batch or a number of threads below one.
    """
    return 1000.0 * batch / latency(model, inputs, batch=batch, threads=threads, seconds=seconds).median_ms


@final
class CalledInTurns:
    """A model that is timed in turns with others, in this process.

    Args:
        model: as it shall be timed; it is left as it was.
        inputs: the inputs of one call.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        self.times: list[float] = []
        self._model = model
        self._device = device_of(model)
        self._inputs = moved(inputs, self._device)
        self._block = 1

    def warm_up(self, seconds: float) -> None:
        """Run untimed, at least three times, and find how many calls make a block."""
        spent, calls = 0.0, 0
        while calls < _WARM_UP_CALLS or spent < seconds:
            last = self._timed(1)[0]
            spent, calls = spent + last, calls + 1
            self._block = max(1, round(_BLOCK_SECONDS / last))

    def run_block(self) -> None:
        """Time one block of calls."""
        self.times += self._timed(self._block)

    def done(self, seconds: float, calls: int) -> bool:
        """Whether enough was measured."""
        return enough(self.times, seconds=seconds, calls=calls)

    def _timed(self, calls: int) -> list[float]:
        times = []
        with evaluating(self._model):
            for _ in range(calls):
                self._wait()
                begin = time.perf_counter()
                call(self._model, self._inputs)
                self._wait()
                times.append(time.perf_counter() - begin)
        return times

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def runtime_of(model: nn.Module) -> str:
    """What runs a model, and the device if it is not the CPU: ``torch eager``, ``onnxruntime``."""
    if isinstance(model, DeployedModel):
        return model.runtime
    device = device_of(model)
    where = "" if device.type == "cpu" else f", {device.type}"
    return f"torch {'compiled' if is_compiled(model) else 'eager'}{where}"


@contextmanager
def _threads(threads: int | None) -> Iterator[int]:
    if threads is not None and threads < 1:
        raise InputError(f"threads must be one or more, got {threads}; leave it out for torch's own choice")
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
