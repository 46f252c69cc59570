"""Files that are whole or not there, and their digests."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from understudy.errors import RunError

_TEMPORARY = re.compile(r"^\..+\.\d+$")
"""Names that :func:`replacing` gives while it writes."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place, complete and on disk, when the block ends well.

    Raises:
        RunError: when the disk does not take it; what was there before is intact.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        code = error.errno if isinstance(error, OSError) else None
        full = code in (errno.ENOSPC, errno.EDQUOT) or "os error 28" in str(error)
        reason = "the disk is full" if full else str(error)
        raise RunError(f"{path} could not be written: {reason}. What was there before is intact") from error
    finally:
        temporary.unlink(missing_ok=True)


def clear_temporaries(folder: Path) -> None:
    """Remove what processes that were killed have left of :func:`replacing` in a folder, and below it.

    Args:
        folder: where nobody writes now; it may not exist.
    """
    for path in folder.rglob(".*"):
        if _TEMPORARY.match(path.name):
            path.unlink(missing_ok=True)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def neighbours(path: Path) -> list[str]:
    """Names of what lies beside a path, for errors about one that is not there."""
    return [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
