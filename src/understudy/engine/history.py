"""What is written down about a training, one line for each validation."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from understudy.distiller import Step
from understudy.engine.process import Process
from understudy.errors import RunError

Record = dict[str, Any]
"""One validation: step, epoch, progress, loss, terms, weights, lr, samples_per_s, seconds, val; plain JSON.

``terms`` are unweighted means since the last record; ``weights`` the factors of the terms at this moment, with what
a balance makes of them."""


class MetricsLog:
    """``metrics.jsonl``: one JSON object on each line.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def rewrite(self, records: Iterable[Record]) -> None:
        """Begin the file anew with these records, such as those that a resumed training had written.

        Raises:
            RunError: when it cannot be written.
        """
        self._write("".join(map(_line, records)), "w")

    def append(self, record: Record) -> None:
        """Add one line.

        Raises:
            RunError: when it cannot be written.
        """
        self._write(_line(record), "a")

    def _write(self, text: str, mode: str) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise RunError(
                f"{self.path} could not be written: {error}; the checkpoints before it are intact"
            ) from error


def _line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


class Meter:
    """Means of the loss and its terms since the last record, without reading a number at every step.

    Args:
        current: this process; what is recorded is the mean over all of them.
    """

    def __init__(self, current: Process) -> None:
        self._process = current
        self._labels: list[str] = []
        self.start()

    def start(self) -> None:
        """Begin anew."""
        self._sum: Tensor | None = None
        self._count = 0
        self._totals: list[float] = []
        self._batches = 0
        self._recent: list[float] = []
        self.samples = 0
        """Samples that were seen, over all processes, since the last record."""
        self._samples_before = 0
        self._begun = time.perf_counter()

    def state(self) -> dict[str, Any]:
        """What was counted since the last record, as JSON."""
        if self._count:
            self.recent()
        return {"labels": self._labels, "totals": self._totals, "batches": self._batches, "samples": self.samples}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on counting from what :meth:`state` gave."""
        self._labels, self._totals, self._batches = state["labels"], state["totals"], state["batches"]
        self.samples, self._samples_before = state["samples"], state["samples"]

    def add(self, output: Step, samples: int) -> None:
        """Count one batch in.

        Args:
            output: what the distiller gave.
            samples: samples of the batch in this process.
        """
        values = torch.stack([output.loss.detach(), *output.terms.values()])
        if self._sum is None:
            self._sum, self._labels = values, list(output.terms)
        else:
            self._sum += values
        self._count += 1
        self.samples += samples * self._process.world

    def recent(self) -> tuple[float, dict[str, float]]:
        """Mean loss and terms, of this process, since this was last asked."""
        if self._sum is not None:
            sums = self._sum.tolist()
            self._recent = [value / self._count for value in sums]
            self._totals = [a + b for a, b in zip(self._totals or [0.0] * len(sums), sums, strict=True)]
            self._batches += self._count
            self._sum, self._count = None, 0
        return self._recent[0], dict(zip(self._labels, self._recent[1:], strict=True))

    def flush(self) -> tuple[float, dict[str, float], int, float]:
        """Mean loss and terms over all processes, samples, and samples per second, since the last record."""
        self.recent()
        device = self._process.device if self._process.world > 1 else None  # not every device knows float64
        everyone = torch.tensor([*self._totals, float(self._batches)], dtype=torch.float64, device=device)
        *sums, batches = self._process.sum(everyone).tolist()
        loss, *terms = [value / batches for value in sums]
        rate = round((self.samples - self._samples_before) / (time.perf_counter() - self._begun), 1)
        return loss, dict(zip(self._labels, terms, strict=True)), self.samples, rate
