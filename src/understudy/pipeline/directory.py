"""The run directory: what lies where, who holds it, and what is finished."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from filelock import FileLock, Timeout

from understudy.errors import InputError, RunError
from understudy.files import replacing


@final
@dataclass(frozen=True)
class StageDirectory:
    """The artifact of one stage for one seed."""

    path: Path

    @property
    def record(self) -> dict[str, Any]:
        """What ``stage.json`` says; empty when there is none yet.

        Raises:
            InputError: when the file is torn.
        """
        return read_json(self.path / "stage.json") if (self.path / "stage.json").is_file() else {}

    def write_record(self, record: dict[str, Any]) -> None:
        """Replace ``stage.json`` in one step."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.path / "stage.json", record)

    def is_done(self, digest: str) -> bool:
        """Whether the stage has been finished for exactly these inputs."""
        record = self.record
        return record.get("status") == "done" and record.get("digest") == digest


@final
@dataclass(frozen=True)
class RunDirectory:
    """Where a run keeps everything."""

    path: Path

    def stage(self, name: str, seed: int) -> StageDirectory:
        """The directory of one stage for one seed; it may not exist yet."""
        return StageDirectory(self.path / "stages" / name / f"seed-{seed}")

    def set_aside(self, stage: StageDirectory) -> Path:
        """Move a stage whose inputs have changed out of the way; nothing that was trained is deleted."""
        relative = stage.path.relative_to(self.path / "stages")
        stamp = time.strftime("%Y%m%d-%H%M%S")
        target = self.path / "replaced" / f"{'-'.join(relative.parts)}-{stamp}-{os.getpid()}"
        target.parent.mkdir(parents=True, exist_ok=True)
        stage.path.rename(target)
        return target

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the directory for this process.

        Raises:
            RunError: when another process holds it, saying which.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the run directory {self.path}: {error.strerror}") from error
        holder = self.path / ".lock.json"
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            who = read_json(holder) if holder.is_file() else {}
            raise RunError(
                f"{self.path} is in use by process {who.get('pid', '?')} on {who.get('host', '?')} since "
                f"{who.get('since', '?')}. Wait for it, stop it, or choose another directory with --out"
            ) from error
        try:
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: when the file cannot be read or is torn.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); delete it to make it again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds {type(value).__name__}, expected a JSON object; delete it to make it again")
    return value


def write_json(path: Path, value: object) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part.

    Raises:
        RunError: when the disk does not take it.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
