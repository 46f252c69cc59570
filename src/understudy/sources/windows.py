"""Running texts as windows of tokens, for models that say which token comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from understudy.errors import InputError
from understudy.sources.tokenizers import open_tokens
from understudy.tokenizing import Bytes, TextTokenization, Tokenizer

RunningTokens = Bytes | Tokenizer
"""What may be made of running texts: tokens that a text can be made of again."""


@dataclass(frozen=True, eq=False, slots=True)
class Windows:
    """Texts in a row, cut into windows: each begins with the last target of the one before.

    So every token but the first is predicted once, and none without a token before it. What does not fill a window at
    the end is left out.

    Attributes:
        inputs: int64 (N, window), the tokens.
        targets: int64 (N, window), the token after each.
    """

    inputs: Tensor
    targets: Tensor


def read_windows(
    texts: Mapping[str, Sequence[str]], tokens: RunningTokens, window: int
) -> tuple[tuple[str, ...], dict[str, Windows]]:
    """Make tokens of the texts of each split and cut them into windows.

    Args:
        texts: by split; where there are several, they stand in a row with a mark of the end between them.
        tokens: what is made of them.
        window: tokens that are read together.

    Returns:
        The names of all tokens, in the order of their numbers, and the windows by split.

    Raises:
        InputError: for tokens that cannot be had, or a split that does not fill a window.
    """
    made = open_tokens(without_length(tokens))
    windows = {name: _cut(_running(each, made), window, name) for name, each in texts.items()}
    return made.names, windows


def without_length(tokens: RunningTokens) -> RunningTokens:
    """The same tokens, where they say nothing of how many are read.

    Raises:
        InputError: where they do.
    """
    if "max_length" in tokens.model_fields_set:
        raise InputError("`tokens` has a `max_length`, and a running text has no end; say `window` for what is read")
    return tokens


def _running(texts: Sequence[str], tokens: TextTokenization) -> np.ndarray:
    """The tokens of texts in a row, with a mark between two of them."""
    mark = [] if tokens.end is None else [np.array([tokens.end])]
    parts = [part for text in texts for part in (*mark, tokens.running(text))]
    return np.concatenate(parts[len(mark) :] or [np.empty(0, np.int64)])


def _cut(row: np.ndarray, window: int, name: str) -> Windows:
    count = (len(row) - 1) // window
    if count < 1:
        raise InputError(
            f"split {name!r} holds {len(row):,} tokens, not one window of {window:,} and the token after it; expected "
            "more text, or a smaller `window`"
        )
    shifted = (row[first : first + count * window].reshape(count, window) for first in (0, 1))
    return Windows(*(torch.from_numpy(np.ascontiguousarray(each)) for each in shifted))
