"""Recording or reading synthetic logits in a process of its own: is told its task, and prints its memory, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from resident import PrivatePeak, resident_peak
from torch import Tensor

import understudy as us
from understudy.sources.splits import Split

BATCH = 1024


class Synthetic:
    """A teacher whose logits are random."""

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def observe(self, batch: us.Batch, taps: tuple[str, ...] = ()) -> us.Knowledge:  # noqa: ARG002 - has no layers
        """Other ones at each call."""
        return us.Knowledge(logits=5.0 * torch.randn(len(batch), self.classes))


def split_of(inputs: Tensor, targets: Tensor, classes: int) -> Split:
    return Split(inputs, targets, torch.arange(len(inputs)), tuple(map(str, range(classes))), "train")


def main(job: str, rows: int, classes: int, folder: Path) -> dict[str, int]:
    """Record the rows, or read each of them once, in a random order."""
    split = split_of(torch.zeros(rows, 1), torch.zeros(rows, dtype=torch.int64), classes)
    with PrivatePeak() as peak:
        if job == "recording":
            us.record(Synthetic(classes), split, folder, batch_size=BATCH)
        else:
            teacher = us.Recorded(folder)
            for batch in us.Loader(split, batch_size=BATCH):
                teacher.observe(batch)
    size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    return {"private_peak_bytes": peak.bytes, "resident_peak_bytes": resident_peak(), "file_bytes": size}


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    print(json.dumps(main(**settings | {"folder": Path(settings["folder"])})))
