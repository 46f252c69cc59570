"""How much memory a saved model takes, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from understudy.errors import RunError
from understudy.sources.artifact import save_artifact
from understudy.sources.artifact_record import locate_artifact, read_record
from understudy.sources.model_specs import ModelSpec

_MOST_SECONDS = 600.0


def peak_memory(
    directory: str | Path, *, name: str = "model", batch: int = 1, threads: int | None = None, device: str = "cpu"
) -> int:
    """Peak memory, in bytes, of loading a saved model and running it once, in a fresh process.

    On the CPU: the highest resident memory of the process, less what it had after importing the libraries and
    doing the same with a tiny model. On a CUDA device: the most that torch had allocated there. Takes seconds.

    Args:
        directory: an artifact, as ``save_artifact`` writes it.
        name: of its files.
        batch: samples of the forward pass; they mean nothing.
        threads: CPU threads for torch, None for its own choice.
        device: ``cpu`` or ``cuda``.

    Raises:
        InputError: when there is no such artifact.
        RunError: when the process fails; its last words are in the error.
    """
    read_record(*locate_artifact(Path(directory), name))
    settings = {"directory": str(directory), "name": name, "batch": batch, "threads": threads, "device": device}
    command = [sys.executable, "-m", "understudy.measure.memory_process", json.dumps(settings)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_MOST_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise RunError(f"measuring the memory of {directory} took more than {_MOST_SECONDS:.0f} s; stopped") from error
    if done.returncode != 0:
        reason = done.stderr.strip().rpartition("\n")[2] or f"it ended with code {done.returncode}"
        raise RunError(f"measuring the memory of {directory} failed: {reason}")
    return int(json.loads(done.stdout.strip().rpartition("\n")[2])["peak_bytes"])


def peak_memory_of(
    model: nn.Module,
    *,
    spec: ModelSpec,
    classes: Sequence[str],
    inputs: Any,
    batch: int = 1,
    threads: int | None = None,
    device: str = "cpu",
) -> int:
    """The same for a model in memory, which is saved to a temporary directory first.

    Args:
        model: what was built from ``spec``.
        spec: how the other process builds it.
        classes: names of the classes.
        inputs: an example batch's inputs.
        batch: samples of the forward pass.
        threads: CPU threads for torch, None for its own choice.
        device: ``cpu`` or ``cuda``.

    Raises:
        RunError: when the process fails.
    """
    with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
        save_artifact(folder, model, spec=spec, classes=classes, inputs=inputs)
        return peak_memory(folder, batch=batch, threads=threads, device=device)
