"""Prompts and their answers as tokens, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from understudy.batch import IGNORE_INDEX
from understudy.errors import InputError
from understudy.sources.cache import content_digest
from understudy.sources.tokenizers import open_tokens
from understudy.sources.windows import RunningTokens, without_length
from understudy.tasks.sequence_to_sequence import told_apart
from understudy.tokenizing import DECODED, TextTokenization

PADDING = 0
"""What stands behind the shorter ones; it is masked, and changes no checksum."""


@final
@dataclass(frozen=True, eq=False, slots=True)
class Pairs:
    """Prompts with their answers, of any lengths, without the padding that a rectangle of them would need.

    A model that reads from left to right has both in one row: its input is all but the last token, and the positions
    that count are those whose next token is one of the answer's. An encoder–decoder has the prompt in the encoder, and
    in the decoder a token to begin with and all of the answer but its last one.

    Attributes:
        content: int32, the tokens of all pairs one after the other, of each the prompt and then the answer.
        starts: int64 (N,), where each pair begins.
        prompts: int64 (N,), how many tokens its prompt has, one or more.
        answers: int64 (N,), how many its answer has, the mark at its end included.
        end: that mark.
        start: what a decoder begins with; None for models that read both in one row.
    """

    content: Tensor
    starts: Tensor
    prompts: Tensor
    answers: Tensor
    end: int
    start: int | None = None

    @staticmethod
    def of(prompts: Sequence[np.ndarray], answers: Sequence[np.ndarray], *, end: int, start: int | None) -> Pairs:
        """Hold some pairs.

        Args:
            prompts: the tokens of each, one or more.
            answers: the same, with the mark at the end.
            end: that mark.
            start: what a decoder begins with; None for models that read both in one row.
        """
        parts = [part for pair in zip(prompts, answers, strict=True) for part in pair]
        lengths = torch.tensor([len(part) for part in parts], dtype=torch.int64).view(-1, 2)
        of_each = lengths.sum(1)
        content = torch.from_numpy(np.concatenate([*parts, np.zeros(1, np.int64)]).astype(np.int32))
        return Pairs(content, of_each.cumsum(0) - of_each, lengths[:, 0], lengths[:, 1], end, start)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> Tensor:
        """int64 (N,): the tokens of each pair."""
        return self.prompts + self.answers

    @property
    def positions(self) -> Tensor:
        """int64 (N,): for how many tokens of each a model gives logits."""
        return self.lengths - 1 if self.start is None else self.answers

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, tokens of the longest), of encoder–decoders (N, those of the longest prompt, of the longest answer)."""
        return (len(self), *map(_longest, (self.positions,) if self.start is None else (self.prompts, self.answers)))

    def select(self, indices: Tensor) -> Pairs:
        """Some of them."""
        chosen = {name: getattr(self, name)[indices] for name in ("starts", "prompts", "answers")}
        return replace(self, **chosen)

    def to(self, device: torch.device | str) -> Pairs:
        """The same on another device."""
        moved = {name: getattr(self, name).to(device) for name in ("content", "starts", "prompts", "answers")}
        return replace(self, **moved)

    def digest(self) -> str:
        """Of all tokens, which of them are answers, and what a decoder begins with."""
        lengths = torch.stack(
            [self.prompts, self.answers, torch.full_like(self.prompts, -1 if self.start is None else self.start)]
        )
        return content_digest(torch.cat([lengths.flatten(), self.content.long()]))

    def gather(self, indices: Tensor) -> Any:
        """The inputs of some of them, with zeros after the shorter ones.

        Returns:
            int64 (n, tokens of the longest); of encoder–decoders ``input_ids`` and ``attention_mask`` of the prompts,
            and ``decoder_input_ids``.
        """
        some = self.select(indices)
        if self.start is None:
            return some._padded(some.starts, some.positions)
        first = torch.full((len(some), 1), self.start, device=some.starts.device)
        spoken = some._padded(some.starts + some.prompts, some.answers - 1)[:, : _longest(some.answers) - 1]
        return told_apart(
            {
                "input_ids": some._padded(some.starts, some.prompts),
                "attention_mask": _before(some.prompts).long(),
                DECODED: torch.cat([first, spoken], 1),
            }
        )

    def mask(self, indices: Tensor) -> Tensor:
        """Bool (n, positions of the longest): for which of the positions the next token is one of the answer's."""
        some = self.select(indices)
        if self.start is not None:
            return _before(some.answers)
        mask = _before(some.positions)
        return mask & (torch.arange(mask.shape[1], device=mask.device) >= some.prompts[:, None] - 1)

    def targets(self, width: int) -> Tensor:
        """int64 (N, ``width``): the answer's token at each position that counts, ``IGNORE_INDEX`` at all others.

        Args:
            width: as many positions as the longest has, or more.
        """
        everything = torch.arange(len(self))
        first = self.starts + (1 if self.start is None else self.prompts)
        mask, found = self.mask(everything), torch.full((len(self), width), IGNORE_INDEX)
        found[:, : mask.shape[1]] = self._padded(first, self.positions).masked_fill_(~mask, IGNORE_INDEX)
        return found

    def _padded(self, first: Tensor, lengths: Tensor) -> Tensor:
        real = _before(lengths)
        places = first[:, None] + torch.arange(real.shape[1], device=real.device)
        return self.content[torch.where(real, places, 0)].long().masked_fill_(~real, PADDING)


def _longest(lengths: Tensor) -> int:
    return max(1, int(lengths.max())) if len(lengths) else 1


def _before(lengths: Tensor) -> Tensor:
    """Bool (n, longest): the first so many of each row."""
    return torch.arange(_longest(lengths), device=lengths.device) < lengths[:, None]


@dataclass(frozen=True, slots=True)
class ReadPairs:
    """The pairs of one split.

    Attributes:
        pairs: those that can be learnt from.
        kept: int64, which rows of the table they are.
        rows: how many the table has.
        cut: how many prompts were cut.
        unanswered: how many rows were left out because they have no answer.
        overlong: how many because their answer is longer than what is read together.
    """

    pairs: Pairs
    kept: Tensor
    rows: int
    cut: int
    unanswered: int
    overlong: int


def read_pairs(
    texts: Sequence[tuple[str, str]], tokens: TextTokenization, window: int, *, start: int | None, name: str
) -> ReadPairs:
    """Make tokens of prompts and answers; a mark of the end stands behind each answer.

    In one row no more than ``window`` tokens are read: of a longer one the beginning of the prompt is cut, so that the
    answer stays. An encoder reads the first ``window`` tokens of a prompt, with the mark at its end. An empty prompt is
    the mark of the end.

    Args:
        texts: each prompt with its answer.
        tokens: what makes them.
        window: how many tokens are read together, and the most that an answer has.
        start: what a decoder begins with; None for models that read both in one row.
        name: of the split, for messages.

    Raises:
        InputError: when the tokenizer has no mark of the end, or no pair is left.
    """
    if tokens.end is None:
        raise InputError(
            "the tokenizer has no mark for the end of a text, so that no model could learn where an answer ends; "
            "expected one with a token such as </s> or <|endoftext|>"
        )
    prompts, answers, kept, cut, unanswered, overlong = [], [], [], 0, 0, 0
    for row, (prompt, answer) in enumerate(texts):
        if not answer.strip():
            unanswered += 1
            continue
        told = answered(answer, tokens, decoded=start is not None)
        if len(told) > window:
            overlong += 1
            continue
        asked = prompted(prompt, tokens, encoded=start is not None)
        read = asked[-(window + 1 - len(told)) :] if start is None else shortened(asked, window)
        cut += len(read) < len(asked)
        prompts.append(read)
        answers.append(told)
        kept.append(row)
    if not kept:
        raise InputError(
            f"split {name!r} has {len(texts):,} prompts, {unanswered:,} of them without an answer and {overlong:,} "
            f"with one of more than {window:,} tokens; expected at least one that can be learnt from"
        )
    pairs = Pairs.of(prompts, answers, end=tokens.end, start=start)
    return ReadPairs(pairs, torch.tensor(kept), len(texts), cut, unanswered, overlong)


def answered(text: str, tokens: TextTokenization, *, decoded: bool) -> np.ndarray:
    """The tokens of an answer, int64, with the mark of the end.

    Args:
        text: the answer.
        tokens: what makes them; it has such a mark.
        decoded: whether a decoder says it, with the marks that the tokenizer puts around a text.
    """
    assert tokens.end is not None
    return tokens.closed(text) if decoded else np.append(tokens.running(text), tokens.end)


def prompted(text: str, tokens: TextTokenization, *, encoded: bool) -> np.ndarray:
    """The tokens of a prompt, int64; the mark of the end, where it is empty.

    Args:
        text: the prompt.
        tokens: what makes them.
        encoded: whether an encoder reads it, with the marks that the tokenizer puts around a text.

    Raises:
        InputError: when it is empty, and there is no such mark.
    """
    row = tokens.closed(text) if encoded else tokens.running(text)
    if len(row) == 0 and tokens.end is None:
        raise InputError("a text begins with nothing, and the tokenizer has no mark to begin with; give a word")
    return row if len(row) else np.array([tokens.end])


def shortened(row: np.ndarray, most: int) -> np.ndarray:
    """What an encoder reads of a prompt: its first tokens, and its last one, the mark of the end.

    Args:
        row: the tokens of a prompt.
        most: how many are read.
    """
    return row if len(row) <= most else np.append(row[: most - 1], row[-1])


def noted(found: dict[str, ReadPairs], window: int) -> tuple[str, ...]:
    """What was cut or left out of all splits, one sentence each.

    Args:
        found: by split.
        window: how many tokens are read together.
    """
    rows = sum(each.rows for each in found.values())

    def line(field: str, what: str) -> tuple[str, ...]:
        count = sum(getattr(each, field) for each in found.values())
        return (f"{count:,} of {rows:,} {what}",) if count else ()

    return (
        *line("cut", f"prompts are cut: a sample has at most `window: {window}` tokens"),
        *line("unanswered", "prompts have no answer and are left out"),
        *line("overlong", f"answers have more than `window: {window}` tokens and are left out"),
    )


def open_pairs(tokens: RunningTokens) -> TextTokenization:
    """What makes tokens of prompts and answers.

    Raises:
        InputError: for tokens that cannot be had, or that are cut by a length of their own.
    """
    return open_tokens(without_length(tokens))
