"""How long a model takes on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from understudy.errors import InputError, listing
from understudy.sources.forward import call, device_of, evaluating, moved, resized
from understudy.taps import is_compiled

_FEWEST_RUNS = 5
_WARM_UP_CALLS = 3
_WARM_UP_SHARE = 0.1
_BLOCK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one call takes, and under which conditions.

    Attributes:
        median_ms: half of the calls were faster.
        p90_ms: nine of ten calls were faster.
        batch: samples per call.
        threads: CPU threads that torch used.
        runtime: what ran the model, and the device if it is not the CPU.
        runs: number of calls that were timed.
    """

    median_ms: float
    p90_ms: float
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
) -> dict[str, Latency]:
    """Time several models in turns, so that whatever else the machine does meets all of them alike.

    Each turn is a short block of calls, so that a small model is not timed with a cache that a big one has filled.

    Args:
        models: names and models; see :func:`latency`.
        inputs: an example batch's inputs, the same for all.
        batch: samples per call.
        threads: CPU threads for torch, None for as many as it uses now; restored afterwards.
        seconds: how long to measure each model.

    Returns:
        The latency of each model, by name, in the given order.

    Raises:
        InputError: for no model, two of one name, or a batch or a number of threads below one.
    """
    names = [name for name, _ in models]
    if not names or len(set(names)) < len(names):
        raise InputError(f"expected one or more models with different names, got {listing(names) or 'none'}")
    with _threads(threads) as used, torch.inference_mode():
        runners = [_Runner(model, resized(inputs, batch)) for _, model in models]
        for runner in runners:
            runner.warm_up(_WARM_UP_SHARE * seconds)
        waiting = list(runners)
        while waiting:
            for runner in waiting:
                runner.run_block(seconds)
            waiting = [runner for runner in waiting if not runner.done(seconds)]
    return {name: runner.result(batch, used) for name, runner in zip(names, runners, strict=True)}


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


class _Runner:
    def __init__(self, model: nn.Module, inputs: Any) -> None:
        self._model = model
        self._device = device_of(model)
        self._inputs = moved(inputs, self._device)
        self._seconds: list[float] = []
        self._total = 0.0
        self._block = 1

    def warm_up(self, seconds: float) -> None:
        """Run untimed, at least three times, and find how many calls make a block."""
        spent, calls = 0.0, 0
        while calls < _WARM_UP_CALLS or spent < seconds:
            last = self._timed(1)[0]
            spent, calls = spent + last, calls + 1
            self._block = max(1, round(_BLOCK_SECONDS / last))

    def run_block(self, seconds: float) -> None:
        """Time one block of calls."""
        if self.done(seconds):
            return
        times = self._timed(self._block)
        self._seconds += times
        self._total += sum(times)

    def done(self, seconds: float) -> bool:
        """Whether enough was measured."""
        return self._total >= seconds and len(self._seconds) >= _FEWEST_RUNS

    def result(self, batch: int, threads: int) -> Latency:
        """The statistics of all timed calls."""
        median, p90 = (1000.0 * float(value) for value in np.quantile(self._seconds, (0.5, 0.9)))
        return Latency(median, p90, batch, threads, _runtime(self._model, self._device), len(self._seconds))

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


def _runtime(model: nn.Module, device: torch.device) -> str:
    compiled = is_compiled(model)
    where = "" if device.type == "cpu" else f", {device.type}"
    return f"torch {'compiled' if compiled else 'eager'}{where}"


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
