"""Samples from many clients, computed together."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import final

from understudy.errors import RunError, UnderstudyError
from understudy.serving.limits import Limits
from understudy.serving.predictor import Answer, Predictor
from understudy.serving.samples import Sample


class QueueFullError(RunError):
    """More samples wait for the model than are allowed to."""


Call = Callable[..., object]
"""Calls a function with its arguments, at once or in another thread."""


def _at_once(function: Callable[..., object], *arguments: object) -> None:
    function(*arguments)


@dataclass(eq=False, slots=True)
class _Waiting:
    sample: Sample
    top: int
    call: Call
    answer: Future[Answer] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


@final
class Batcher:
    """A queue before one or several copies of a model; each takes all samples that wait, up to a limit, at once.

    A sample that is given up (its future is cancelled) before its batch has begun is not computed.

    Args:
        predictors: the copies; each gets a thread of its own.
        limits: of the batch and of the queue, and how long a batch may wait for more.
        observe: is told of each batch its samples and the seconds that it took.
    """

    def __init__(
        self,
        predictors: Sequence[Predictor],
        limits: Limits,
        *,
        observe: Callable[[int, float], None] = lambda *_: None,
    ) -> None:
        self._limits, self._observe = limits, observe
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, args=(predictor,), name=f"model-{number}", daemon=True)
            for number, predictor in enumerate(predictors)
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        """Samples that wait."""
        return len(self._waiting)

    def submit(self, samples: Sequence[Sample], *, top: int = 1, call: Call = _at_once) -> list[Future[Answer]]:
        """Put samples into the queue, all of them or none.

        Args:
            samples: as the predictors' form reads them.
            top: how many classes to tell of each.
            call: calls what sets the futures of a batch, once for all that share it: an event loop's
                ``call_soon_threadsafe`` is woken once, not for each sample.

        Returns:
            A future for each; it raises what :meth:`Predictor.each` gives in place of an answer.

        Raises:
            QueueFullError: when there is no room for all of them, or the batcher is closed.
        """
        items = [_Waiting(sample, top, call) for sample in samples]
        with self._changed:
            if self._closed or len(self._waiting) + len(items) > self._limits.queue:
                raise QueueFullError(f"{len(self._waiting)} inputs are waiting already; try again later")
            self._waiting.extend(items)
            self._changed.notify_all()
        for item in items:
            item.answer.add_done_callback(lambda answer, item=item: self._forget(item) if answer.cancelled() else None)
        return [item.answer for item in items]

    def close(self, *, timeout_s: float = 5.0) -> None:
        """Compute what waits, and end the threads; one that hangs inside a runtime is left behind."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout_s)

    def _forget(self, item: _Waiting) -> None:
        with self._changed:
            if item in self._waiting:
                self._waiting.remove(item)

    def _work(self, predictor: Predictor) -> None:
        while batch := self._take():
            begun = time.monotonic()
            answers = predictor.each([item.sample for item in batch], top=max(item.top for item in batch))
            self._observe(len(batch), time.monotonic() - begun)
            told: dict[Call, list[tuple[_Waiting, Answer | UnderstudyError]]] = {}
            for item, answer in zip(batch, answers, strict=True):
                told.setdefault(item.call, []).append((item, answer))
            for call, some in told.items():
                with suppress(RuntimeError):  # an event loop that has ended: nobody waits there any more
                    call(_tell, some)

    def _take(self) -> list[_Waiting]:
        """The next batch, once there is one; nothing when the batcher is closed and empty."""
        with self._changed:
            while True:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return []
                self._wait_for_more()
                taken = [self._waiting.popleft() for _ in range(min(self._limits.max_batch, len(self._waiting)))]
                wanted = [item for item in taken if item.answer.set_running_or_notify_cancel()]
                if wanted:
                    return wanted

    def _wait_for_more(self) -> None:
        until = self._waiting[0].since + self._limits.batch_wait_ms / 1000
        while not self._closed and 0 < len(self._waiting) < self._limits.max_batch:
            left = until - time.monotonic()
            if left <= 0:
                return
            self._changed.wait(left)


def _tell(answers: list[tuple[_Waiting, Answer | UnderstudyError]]) -> None:
    for item, answer in answers:
        if isinstance(answer, UnderstudyError):
            item.answer.set_exception(answer)
        else:
            item.answer.set_result(answer.first(item.top))
