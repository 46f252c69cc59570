"""Ctrl-C and SIGTERM wait for the end of a step and its checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """The wish of somebody outside that this process ends, kept until it suits.

    Several processes get a signal at different steps, and would wait for each other: theirs is not kept.

    Args:
        kept: whether signals are kept at all.

    Attributes:
        asked: the signal that has come and waits; None as long as there is none.
    """

    def __init__(self, *, kept: bool) -> None:
        self.asked: int | None = None
        self._kept = kept and threading.current_thread() is threading.main_thread()
        self._before: dict[int, Any] = {}

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside, the first signal is remembered and a second one takes effect at once; at the end, all do."""
        if self._kept:
            for number in _SIGNALS:
                # None is a handler of another program around this one, which Python could not put back.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._remember)
        try:
            yield
        finally:
            self._restore()
            self.take_effect()

    def take_effect(self) -> None:
        """Do what the signal that was remembered would have done."""
        if self.asked is not None:
            number, self.asked = self.asked, None
            self._restore()
            signal.raise_signal(number)

    def _remember(self, number: int, _: object) -> None:
        self.asked = number
        self._restore()

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
