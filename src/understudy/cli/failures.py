"""What the command line says when something goes wrong, and the number it ends with."""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from pathlib import Path

from understudy.errors import UnderstudyError

FAULT = 1
INTERRUPTED = 130
"""128 plus the number of the signal, as shells have it."""


class InterruptedRunError(UnderstudyError):
    """The user pressed Ctrl-C."""

    exit_code = INTERRUPTED


def tell(text: str) -> None:
    """Write to stderr, where everything goes that is not the result."""
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)


def explain(error: Exception) -> int:
    """Say what went wrong, without a trace, and give the exit code.

    Args:
        error: one of ours is explained by its own text; of any other the trace goes to a file.
    """
    if isinstance(error, UnderstudyError):
        tell(str(error) if error.exit_code == INTERRUPTED else f"Error: {error}")
        return error.exit_code
    tell(f"Error: {type(error).__name__}: {error}".rstrip(": "))
    tell(
        "This was not expected. It is a fault in code of your own that was named under python, or in Understudy. "
        f"The full trace is in {_keep(error)}"
    )
    return FAULT


def _keep(error: Exception) -> str:
    """Write the trace to a file of its own; where no file can be written, it is the trace itself that is given."""
    trace = "".join(traceback.format_exception(error))
    header = f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n{' '.join(sys.argv)}\nPython {sys.version}\n\n"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="understudy-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(header + trace)
    except OSError:
        return f"no file, because the disk takes none:\n{trace}"
    return str(Path(file.name))
