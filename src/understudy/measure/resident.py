"""How much memory this process has taken from the system."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import psutil


def start_of_peak() -> int:
    """Resident bytes now; :func:`peak` counts from here where the system can do so (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return peak()
    return psutil.Process().memory_info().rss


def peak() -> int:
    """The most resident bytes since :func:`start_of_peak`, or since this process began."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
