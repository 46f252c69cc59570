"""TensorBoard, MLflow, Weights & Biases, trackio …, through Accelerate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers

from understudy.engine.history import Record
from understudy.engine.process import make_accelerator
from understudy.errors import InputError, nearest

_PACKAGES = {"comet_ml": "comet-ml"}


class Trackers:
    """The trackers of one training.

    Args:
        names: such as ``("tensorboard",)``; none is fine.
        directory: where trackers that write files put them; a run is called after it.
        settings: the settings to note with the run.

    Raises:
        InputError: for an unknown tracker, one that is not installed (naming what to install), or one that
            writes files when there is no directory.
    """

    def __init__(self, names: Sequence[str], directory: Path | None, settings: dict[str, Any]) -> None:
        self._trackers: list[GeneralTracker] = []
        if not names:
            return
        for name in names:
            _check(name, directory)
        folder = directory / "trackers" if directory is not None else None
        accelerator = make_accelerator(trackers=names, directory=folder)
        accelerator.init_trackers(directory.name if directory is not None else "understudy", config=_flat(settings))
        self._trackers = accelerator.trackers

    def log(self, record: Record) -> None:
        """Pass a record on."""
        if self._trackers:
            values = {key: value for key, value in _flat(record).items() if isinstance(value, float | int)}
            for tracker in self._trackers:
                tracker.log(values, step=record["step"])

    def finish(self) -> None:
        """Close them all."""
        for tracker in self._trackers:
            tracker.finish()
        self._trackers = []


def _check(name: str, directory: Path | None) -> None:
    known = [str(kind) for kind in LOGGER_TYPE_TO_CLASS]
    if name not in known:
        raise InputError(f"there is no tracker {name!r}{nearest(name, known)} (known: {', '.join(known)})")
    if name not in map(str, get_available_trackers()):
        raise InputError(f"tracker {name!r} is not installed: pip install {_PACKAGES.get(name, name)}")
    if LOGGER_TYPE_TO_CLASS[name].requires_logging_directory and directory is None:
        raise InputError(f"tracker {name!r} writes files; pass directory=… so that it knows where")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str | float | int]:
    flat: dict[str, str | float | int] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}/")
        elif isinstance(value, str | float | int):
            flat[f"{prefix}{key}"] = value
        elif value is not None:
            flat[f"{prefix}{key}"] = str(value)
    return flat
