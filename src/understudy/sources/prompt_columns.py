"""The columns of a table that hold prompts and their answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from understudy.errors import InputError
from understudy.sources.tables import check_names, described, only_one, textual

if TYPE_CHECKING:
    import datasets

_USUAL = {
    "prompt": ("answer", "completion", "response"),
    "instruction": ("output", "response"),
    "question": ("answer",),
}
"""Columns of prompts, and those that answer them."""
_MORE = {"instruction": "input"}
"""Columns that hold the rest of a prompt, in tables as Alpaca's."""
_RUNNING = ("text", "texts")


@dataclass(frozen=True, slots=True)
class PromptColumns:
    """Which columns are read.

    Attributes:
        prompt: that of prompts, or several that stand in them one after the other.
        answer: that of answers.
    """

    prompt: tuple[str, ...]
    answer: str


def find_prompts(
    features: Mapping[str, Any], prompt: str | tuple[str, ...] | None, answer: str | None, *, running: bool
) -> PromptColumns | None:
    """Take the columns that the user names, or those that can only be meant.

    Args:
        features: the columns' types by name, as ``datasets`` gives them.
        prompt: what the user says; None: a column with a usual name that has an answer beside it.
        answer: what the user says; None: the column with a usual name.
        running: whether running texts are read as well, so that a column of such comes first.

    Returns:
        The columns; None where the user names none, and there are none, or running texts.

    Raises:
        InputError: listing the columns, when one does not exist or holds no texts, or several or none could be meant.
    """
    named = (prompt,) if isinstance(prompt, str) else prompt or ()
    check_names(features, (*named, *((answer,) if answer else ())))
    texts = [name for name, feature in features.items() if textual(feature) or _whole(feature)]
    if not named:
        pairs = [each for each in _USUAL if each in texts and (answer or any(one in texts for one in _USUAL[each]))]
        if answer is None and (not pairs or (running and any(name in texts for name in _RUNNING))):
            return None
        first = only_one(pairs, "prompt", features)
        named = (first, *(more for more in (_MORE.get(first),) if more in texts and more != answer))
    if answer is None:
        usual = dict.fromkeys(one for each in _USUAL.values() for one in each)
        known = _USUAL.get(named[0], tuple(usual))
        answer = only_one([name for name in known if name in texts and name not in named], "answer", features)
    wrong = [name for name in (*named, answer) if name not in texts]
    if wrong or answer in named:
        problem = f"column {wrong[0]!r} does not hold texts" if wrong else f"column {answer!r} is named twice"
        raise InputError(f"{problem}; expected a column of prompts and one of answers. {described(features)}")
    return PromptColumns(named, answer)


def read_prompts(split: datasets.Dataset, columns: PromptColumns) -> list[tuple[str, str]]:
    """Each prompt with its answer; an empty cell is an empty text, a number its digits.

    Args:
        split: as ``datasets`` opened it.
        columns: which are read; of several columns of prompts those that are not empty, with an empty line between.
    """
    table = split.with_format("arrow")[:]
    parts = [
        ["" if cell is None else str(cell) for cell in table[name].to_pylist()]
        for name in (*columns.prompt, columns.answer)
    ]
    return [("\n\n".join(filter(None, prompt)), answer) for *prompt, answer in zip(*parts, strict=True)]


def _whole(feature: Any) -> bool:
    """Whether a column holds whole numbers."""
    import datasets

    return isinstance(feature, datasets.Value) and feature.dtype.startswith(("int", "uint"))
