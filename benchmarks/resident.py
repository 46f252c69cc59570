"""How much memory a process held at the most."""

from __future__ import annotations

import resource
import sys
import threading
from pathlib import Path

STATUS = Path("/proc/self/status")


def resident_peak() -> int:
    """The most memory that this process ever held, in bytes."""
    if STATUS.is_file():  # getrusage would count what the parent held when it started this process
        return _bytes("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class PrivatePeak:
    """The most memory that this process holds of its own inside a ``with``, looked at every few milliseconds.

    What is mapped from files does not count, as the system takes it back when it needs it. Where the system does not
    tell the two apart, it is :func:`resident_peak`.
    """

    bytes: int = 0

    def __enter__(self) -> PrivatePeak:
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()

    def _watch(self) -> None:
        while True:
            self.bytes = max(self.bytes, _bytes("RssAnon") if STATUS.is_file() else resident_peak())
            if self._done.wait(0.005):
                return


def _bytes(field: str) -> int:
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(fields[field].split()[0]) * 1024
