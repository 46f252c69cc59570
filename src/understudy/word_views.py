"""Augmented views of texts: which words of them are left, as a pure function of (seed, sample id, view number)."""

from __future__ import annotations

import torch
from torch import Tensor

LONGEST_RUN = 5
"""The most words of a run that stands for its text."""

_SPACE = 32


def kept_words(rows: Tensor, draws: Tensor, *, dropout: float) -> Tensor:
    """Which words are left when each is dropped with some probability; at least one of those of a text.

    Args:
        rows: int64 (N, bytes), the number of the word that each byte belongs to, -1 for those of no word.
        draws: float64 (N, words), uniform in [0, 1), one for each word.
        dropout: probability that a word is dropped.

    Returns:
        Bool (N, words); also for numbers that no word has.
    """
    there = torch.arange(draws.shape[1], device=draws.device) <= rows.amax(1, keepdim=True)
    surest = torch.where(there, draws, -1.0).argmax(1, keepdim=True)
    return (draws >= dropout).scatter(1, surest, True)


def runs(rows: Tensor, chances: Tensor, lengths: Tensor, places: Tensor, *, share: float) -> Tensor:
    """Which words are left when some texts become a run of a few of their words.

    Args:
        rows: as for :func:`kept_words`.
        chances: float64 (N,), uniform in [0, 1), below ``share`` for those that become a run.
        lengths: float64 (N,), uniform, how long it is.
        places: float64 (N,), uniform, where it is.
        share: how many texts become one.

    Returns:
        Bool (N, words).
    """
    count = rows.amax(1) + 1
    length = (1 + (lengths * LONGEST_RUN).long()).minimum(count)
    first = (places * (count - length + 1)).long()
    numbers = torch.arange(int(count.max().clamp_min(1)), device=rows.device)
    inside = (numbers >= first[:, None]) & (numbers < (first + length)[:, None])
    return inside | (chances >= share)[:, None]


def word_numbers(texts: Tensor) -> Tensor:
    """The number of the word that each byte belongs to, from 0; -1 for spaces, other white space, marks and padding.

    Args:
        texts: uint8 (N, bytes), UTF-8 with zeros at the end.

    Returns:
        int64 (N, bytes).
    """
    inside = texts > _SPACE
    begins = inside.clone()
    begins[:, 1:] &= ~inside[:, :-1]
    return torch.where(inside, begins.long().cumsum(1) - 1, -1)


def without(texts: Tensor, numbers: Tensor, kept: Tensor) -> Tensor:
    """The texts with some of their words, and no space after one that is left out.

    Args:
        texts: uint8 (N, bytes).
        numbers: of their words, int64 (N, bytes).
        kept: bool (N, words).

    Returns:
        uint8 (N, bytes of the longest), with zeros after the shorter ones.
    """
    before = numbers.cummax(1).values  # the word that a space comes after
    stays = kept.gather(1, before.clamp_min(0)) | (before < 0)
    stays = torch.where((numbers >= 0) | (texts == _SPACE), stays, texts > 0)
    order = (~stays).to(torch.uint8).argsort(dim=1, stable=True)
    longest = max(1, int(stays.sum(1).max())) if len(texts) else 1
    return (texts * stays).gather(1, order)[:, :longest].contiguous()
