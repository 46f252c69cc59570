"""Beginning a recording, and letting one that is there grow."""

from __future__ import annotations

from pathlib import Path

import torch

from understudy.batch import contradicting
from understudy.errors import InputError, RunError
from understudy.files import clear_temporaries
from understudy.recordings.again import how_to_record
from understudy.recordings.manifest import NAME, Manifest, Part, read_manifest, write_manifest
from understudy.recordings.samples import Samples, in_words, read_samples, write_samples


def begin(folder: Path, manifest: Manifest, samples: Samples, *, extend: bool) -> None:
    """Leave a manifest for what is recorded now.

    Args:
        folder: of the recording; it may hold one already, whole or not.
        manifest: of what is asked for; the name of the file with its samples is not looked at.
        samples: in the order of the manifest's parts.
        extend: whether a recording that is there may grow.

    Raises:
        InputError: when the one that is there is of something else, or would have to grow or to shrink.
        RunError: when the disk does not take it.
    """
    clear_temporaries(folder)
    if (folder / NAME).is_file():
        former = read_manifest(folder)
        different = former.differences(manifest)
        if different:
            raise InputError(
                f"{folder} holds a recording of something else: {'; '.join(different)}. Record into another folder; or "
                f"delete this one, and record again: {how_to_record(folder)}"
            )
        parts, samples = _grown(former, manifest, read_samples(folder / former.samples, former.count), samples)
        manifest = former.model_copy(update={"parts": parts})
        if manifest == former:
            return
        if not extend:
            raise InputError(
                f"{folder} holds a recording of {_described(former)}, asked for are {_described(manifest)}. Add what "
                "is missing with --extend (extend=True), or record into another folder"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} cannot be made: {error.strerror}") from error
    write_manifest(folder, manifest.model_copy(update={"samples": write_samples(folder, samples)}))


def _grown(former: Manifest, wanted: Manifest, old: Samples, new: Samples) -> tuple[tuple[Part, ...], Samples]:
    """The parts of the former recording with what is wanted beside it; its own samples keep their positions.

    Raises:
        InputError: when samples that were recorded are no longer there, or have another label.
    """
    by_name = {part.name: part for part in wanted.parts}
    parts, ids, targets = [], [old.ids], [old.targets]
    for part in former.parts:
        if part.name not in by_name:
            raise InputError(
                f"the recording holds samples of split {part.name!r}, which is not recorded now; expected it too. "
                "Record into another folder"
            )
        if part.views > by_name[part.name].views:
            raise InputError(
                f"the recording holds {part.views} views of split {part.name!r}, asked for are "
                f"{by_name[part.name].views}; expected no fewer. Record into another folder"
            )
        parts.append(part.model_copy(update={"views": by_name[part.name].views}))
    _check_labels(old, new)
    count = len(old)
    for part in wanted.parts:
        mine = new.ids[part.first : part.last]
        before = [old.ids[each.first : each.last] for each in former.parts if each.name == part.name]
        recorded = torch.cat([old.ids[:0], *before])
        if not torch.isin(recorded, mine).all():
            gone = int((~torch.isin(recorded, mine)).sum())
            raise InputError(
                f"{gone} of {len(recorded)} recorded samples of split {part.name!r} are not in the data now; expected "
                "all of them. Record into another folder"
            )
        fresh = (~torch.isin(mine, recorded)).nonzero().flatten() + part.first
        if len(fresh):
            parts.append(part.model_copy(update={"first": count, "last": count + len(fresh)}))
            ids.append(new.ids[fresh])
            targets.append(new.targets[fresh])
            count += len(fresh)
    return tuple(parts), Samples(torch.cat(ids), torch.cat(targets))


def _check_labels(old: Samples, new: Samples) -> None:
    places, absent = new.find(old.ids)
    now = new.targets[places]
    if now.shape[1:] != old.targets.shape[1:]:
        raise InputError(
            f"the recorded samples have labels of shape {tuple(old.targets.shape)}, they are of shape "
            f"{tuple(new.targets.shape)} now; expected the same data. Record into another folder"
        )
    differ = contradicting(now, old.targets)
    other = differ & ~absent.view(-1, *[1] * (differ.ndim - 1))
    if other.any():
        place = tuple(other.nonzero()[0].tolist())
        raise InputError(
            f"{int(other.sum())} of {len(old)} recorded samples have another label now: sample "
            f"{int(old.ids[place[0]])} had {in_words(old.targets[place])}, now {in_words(now[place])}. Expected the "
            "same data, with the classes in the same order; record into another folder"
        )


def _described(manifest: Manifest) -> str:
    return ", ".join(
        f"{part.last - part.first} samples of {part.name!r}"
        + (f" in {part.views} view{'s' if part.views > 1 else ''}" if part.views else "")
        for part in manifest.parts
    )
