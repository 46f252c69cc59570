"""A small split, a teacher that answers alike whatever batch a sample is in, and recordings written by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from understudy.batch import Batch
from understudy.knowledge import Knowledge
from understudy.recordings import Manifest, Part, Storage
from understudy.recordings.manifest import write_manifest
from understudy.recordings.samples import Samples, write_samples
from understudy.recordings.shards import write_shard
from understudy.sources.splits import Split

NAMES = tuple("abcdef")


def split_of(count: int, *, name: str = "train", first: int = 1000, seed: int = 1) -> Split:
    """Images, each with its own id, in no order of the ids."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8, generator=generator)
    ids = first + 7 * torch.randperm(count, generator=generator)
    return Split(inputs, torch.randint(len(NAMES), (count,), generator=generator), ids, NAMES, name)


class Picks:
    """A teacher whose logits are some pixels: exactly the same in every batch.

    Attributes:
        asked: the ids of each batch that it was shown, with the view.
        wrong: ids for which the answer is not a number.
    """

    def __init__(self, *, identity: str = "picks", wrong: Sequence[int] = ()) -> None:
        self.identity, self.wrong = identity, torch.tensor(list(wrong), dtype=torch.int64)
        self.asked: list[tuple[int | None, list[int]]] = []

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> Knowledge:
        self.asked.append((batch.view, batch.ids.tolist()))
        logits = 8.0 * batch.inputs.flatten(1)[:, : len(NAMES)] - 3.0
        logits[torch.isin(batch.ids, self.wrong)] = torch.nan
        features = {"image": batch.inputs, "row": batch.inputs[:, 0, 0]}
        return Knowledge(logits=logits, features={path: features[path] for path in taps})


def rows_asked(teacher: Picks) -> dict[int | None, list[int]]:
    """By view the samples that a teacher was shown, after the first batch, which is only looked at."""
    found: dict[int | None, list[int]] = {}
    for view, ids in teacher.asked[1:]:
        found.setdefault(view, []).extend(ids)
    return {view: sorted(ids) for view, ids in found.items()}


def safetensors_in(folder: Path) -> list[str]:
    """All files of a recording but its manifest; their names tell what is inside."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.safetensors"))


def written(
    folder: Path,
    ids: Tensor,
    shards: Sequence[tuple[int | None, int, Mapping[str, Tensor]]],
    *,
    keep: Storage | None = None,
    views: int = 0,
    classes: Sequence[str] = NAMES,
    targets: Tensor | None = None,
) -> Path:
    """A recording as any program could write it: of each shard the view, the first row, and the tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    targets = targets if targets is not None else torch.full_like(ids, -100)
    manifest = Manifest(
        teacher="somebody",
        classes=tuple(classes),
        keep=keep or Storage(dtype="float32"),
        samples=write_samples(folder, Samples(ids, targets)),
        parts=(Part(name="train", first=0, last=len(ids), views=views),),
    )
    write_manifest(folder, manifest)
    for view, first, tensors in shards:
        write_shard(folder, view, first, tensors)
    return folder


def resident(path: Path) -> int:
    """Bytes of a file that this process has in memory through a mapping."""
    total, mine = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.partition(" ")[0]:
            mine = line.endswith(str(path))
        elif mine and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


def flips(content: bytes) -> list[bytes]:
    """The same with one bit turned over, in each byte once; another bit in each."""
    return [
        content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
        for place in range(len(content))
    ]
