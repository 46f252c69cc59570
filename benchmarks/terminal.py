"""A pseudo-terminal for displays that are to be on while nobody looks."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator


class Terminal:
    """A terminal that nobody looks at: what is written to ``stream`` is read and counted.

    A real pseudo-terminal, so that the display does all that it does before a person.
    """

    def __init__(self) -> None:
        self.bytes = 0
        master, slave = os.openpty()
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        self._reader = threading.Thread(target=self._read, args=(master,), daemon=True)
        self._reader.start()

    def _read(self, master: int) -> None:
        with contextlib.suppress(OSError):  # what Linux says once the other end is closed
            while block := os.read(master, 4096):
                self.bytes += len(block)
        os.close(master)

    def close(self) -> None:
        """Wait until all is read."""
        self.stream.close()
        self._reader.join()


@contextlib.contextmanager
def watched(terminal: Terminal) -> Iterator[None]:
    """Lines that torchdistill logs go to the terminal too: it writes them through the root logger."""
    handler, root = logging.StreamHandler(terminal.stream), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(before)
        root.removeHandler(handler)
