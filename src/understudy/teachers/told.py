"""A teacher that told its answers beforehand, sample by sample."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from understudy.batch import IGNORE_INDEX, Batch
from understudy.errors import InputError, listing
from understudy.knowledge import Knowledge
from understudy.recordings.samples import Samples


@final
class Told:
    """A teacher of which nothing but its answers is there: labels that somebody guessed, probabilities of a service.

    It knows samples, not views: whatever a sample looks like, its answer is the same. Samples that are mixed of two are
    refused, as nobody told the answer to a mix.

    Args:
        ids: int64 (N,), the ids of the samples, each once.
        answers: logits (N, classes), or those of the likeliest classes with their tails; no features.
        name: what it is called in errors.
        about: what there is to say of its answers, in a few words.

    Raises:
        InputError: for ids that are double, or another number of them than of answers.

    Example:
        >>> teacher = Told(torch.tensor([7, 3]), Knowledge(logits=torch.tensor([[0.9, 0.1], [0.2, 0.8]]).log()))
        >>> teacher.observe(Batch(inputs=torch.zeros(1, 4), ids=torch.tensor([3]))).logits.exp()
        tensor([[0.2000, 0.8000]])
    """

    def __init__(self, ids: Tensor, answers: Knowledge, *, name: str = "the table", about: str = "") -> None:
        if ids.dtype != torch.int64 or ids.ndim != 1 or len(ids) != len(answers.logits) or not len(ids):
            raise InputError(
                f"{name} has ids {tuple(ids.shape)} {ids.dtype} for answers {tuple(answers.logits.shape)}; expected "
                "one int64 id for each answer, and at least one"
            )
        self.name, self.about = name, about
        self._samples = Samples(ids, torch.full_like(ids, IGNORE_INDEX))
        self._answers = answers
        if len(double := self._samples.double()):
            raise InputError(
                f"{name} answers more than once for {len(double)} samples (ids {_shown(double)}); expected each id once"
            )

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the ids and the answers."""
        top = self._answers.top
        tensors = [self._samples.ids, self._answers.logits]
        tensors += [top.kept, *top.tails.values()] if top is not None else []
        digest = hashlib.sha256()
        for tensor in tensors:
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def check_answers(self, ids: Tensor) -> None:
        """See that there is an answer for each of some samples.

        Args:
            ids: int64 (n,).

        Raises:
            InputError: naming those without one.
        """
        self._positions(ids.cpu())

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> Knowledge:
        """What was told about these samples.

        Raises:
            InputError: for samples without an answer, or mixed ones, a batch without ids, or layers.
        """
        if taps:
            raise InputError(
                f"{self.name} holds answers and no layers, asked for {listing(list(taps))}; terms on layers need a "
                "live teacher, or a recording that keeps them"
            )
        if batch.ids is None:
            raise InputError(
                f"{self.name} answers by the ids of the samples, and the batch has none; use us.Loader, or give "
                "Batch(ids=...)"
            )
        if batch.label_pairs is not None:
            raise InputError(
                f"{self.name} tells about samples, and these are mixed of two, of which nobody told anything; leave "
                "`mixup` and `cutmix` out of `views`"
            )
        return self._rows(self._positions(batch.ids.cpu()), batch.ids.device)

    def _positions(self, ids: Tensor) -> Tensor:
        positions, strange = self._samples.find(ids)
        if strange.any():
            raise InputError(
                f"{self.name} has no answer for {int(strange.sum()):,} of {len(ids):,} samples (ids "
                f"{_shown(ids[strange])}); add their rows, or train on the samples that it has (`subset`). An id is "
                "the position of a sample in the data set"
            )
        return positions

    def _rows(self, positions: Tensor, device: torch.device) -> Knowledge:
        def rows(tensor: Tensor) -> Tensor:
            return tensor.index_select(0, positions).to(device)

        top = self._answers.top
        if top is not None:
            tails = {temperature: rows(tail) for temperature, tail in top.tails.items()}
            top = replace(top, kept=rows(top.kept), tails=tails)
        return replace(self._answers, logits=rows(self._answers.logits), top=top)


def _shown(ids: Tensor) -> str:
    return ", ".join(map(str, ids[:4].tolist()))
