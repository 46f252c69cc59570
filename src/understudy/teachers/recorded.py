"""A teacher whose answers are on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from understudy.batch import Batch, contradicting
from understudy.errors import InputError, listing
from understudy.knowledge import Knowledge
from understudy.recordings import Recording
from understudy.recordings.again import how_to_record
from understudy.recordings.checksums import input_checksums
from understudy.recordings.samples import in_words
from understudy.recordings.storage import INPUTS


@final
class Recorded:
    """A teacher that was recorded (see :func:`understudy.record`): it answers by the ids of the samples.

    Only the rows of a batch are read. Files are verified when they are first used. In the first batch of each view the
    inputs are compared, bit for bit, with those that the teacher was shown, and the labels with those there were.

    Args:
        recording: the folder, or what was opened already.

    Raises:
        InputError: when it is damaged, or not whole.
    """

    def __init__(self, recording: str | Path | Recording) -> None:
        self.recording = recording if isinstance(recording, Recording) else Recording(recording)
        self.recording.check_whole()
        self._compared: set[int | None] = set()
        self._uncompared: set[int | None] = set()

    @property
    def certain(self) -> bool:
        """Whether all views that were asked for so far showed, bit for bit, what the teacher had been shown."""
        return bool(self._compared) and not self._uncompared

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> Knowledge:
        """What the teacher answered when it was shown these samples in this view.

        Raises:
            InputError: for samples, views or layers that were not recorded, or inputs that are not those that were.
        """
        manifest = self.recording.manifest
        unknown = [path for path in taps if path not in manifest.keep.layers]
        if unknown:
            kept = listing(list(manifest.keep.layers)) or "none"
            raise InputError(
                f"the recording in {self.recording.folder} does not hold the teacher's layers {listing(unknown)}; "
                f"recorded are: {kept}. Record them (`keep.layers`), or let the teacher answer live"
            )
        if batch.ids is None:
            raise InputError(
                "a recorded teacher answers by the ids of the samples, and the batch has none; use us.Loader, or give "
                "Batch(ids=...)"
            )
        compare = batch.view not in self._compared and len(batch.ids) > 0
        names = (*manifest.keep.names(taps), *([INPUTS] if compare else []))
        with torch.autocast("cpu", enabled=False):  # it cannot join float16, and would round what is read
            rows = self.recording.rows(batch.ids.cpu(), batch.view, names)
            if compare:
                self._compare_labels(batch)
                self._compare(batch, rows.get(INPUTS))
            answer = manifest.keep.decode(rows, classes=len(manifest.classes), layers=taps)
        return _on(_as_wide(answer, batch), batch.ids.device)

    def _compare_labels(self, batch: Batch) -> None:
        """Refuse samples that were labelled otherwise, and so may be others, or of other classes."""
        targets = batch.targets if batch.label_pairs is None else batch.label_pairs[..., 0]
        samples = self.recording.samples
        if batch.ids is None or targets is None or targets.ndim != samples.targets.ndim:
            return
        recorded, now = samples.targets[samples.positions(batch.ids.cpu())], targets.cpu()
        if now.ndim > 1:
            recorded = recorded[:, : now.shape[1]]  # all samples are recorded as wide as the longest
        if recorded.shape != now.shape:
            return
        strange = contradicting(recorded, now.to(recorded.dtype))
        if strange.any():
            place = tuple(strange.nonzero()[0].tolist())
            raise InputError(
                f"{int(strange.sum())} of {strange.numel()} samples are labelled otherwise than when "
                f"{self.recording.folder} was recorded: sample {int(batch.ids[place[0]])} had label "
                f"{in_words(recorded[place])}, now {in_words(now[place])}. Expected the same data, with the classes in "
                "the same order; record again for these"
            )

    def _compare(self, batch: Batch, recorded: Tensor | None) -> None:
        assert batch.ids is not None
        if recorded is None:
            self._uncompared.add(batch.view)
        else:
            strange = input_checksums(batch.inputs).cpu() != recorded
            if strange.any():
                shown = ", ".join(str(int(one)) for one in batch.ids.cpu()[strange][:4])
                view = "as they are" if batch.view is None else f"in view {batch.view}"
                raise InputError(
                    f"{int(strange.sum())} of {len(strange)} samples {view} are not what the teacher was shown when "
                    f"{self.recording.folder} was recorded (ids {shown}). Expected the same data, size of images, "
                    f"views, and seed of the views ({self.recording.manifest.view_seed}); or record again for these: "
                    f"{how_to_record(self.recording.folder)}"
                )
        self._compared.add(batch.view)


def _as_wide(answer: Knowledge, batch: Batch) -> Knowledge:
    """As many positions as a batch of samples of different lengths has; each is recorded as wide as the longest."""
    if batch.mask is None or batch.mask.ndim != 2:
        return answer
    width, top = batch.mask.shape[1], answer.top
    if top is not None:
        tails = {temperature: tail[:, :width] for temperature, tail in top.tails.items()}
        top = replace(top, kept=top.kept[:, :width], tails=tails)
    return replace(answer, logits=answer.logits[:, :width], top=top)


def _on(answer: Knowledge, device: torch.device) -> Knowledge:
    if device.type == "cpu":
        return answer
    top = answer.top
    if top is not None:
        tails = {temperature: tail.to(device) for temperature, tail in top.tails.items()}
        top = replace(top, kept=top.kept.to(device), tails=tails)
    features = {path: feature.to(device) for path, feature in answer.features.items()}
    return replace(answer, logits=answer.logits.to(device), features=features, top=top)
