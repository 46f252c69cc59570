"""What an exported file says about itself, from inside."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationError

from understudy.errors import InputError
from understudy.spec import Spec
from understudy.tokenizing import AnyTokens

TOKENIZER = ".tokenizer.json"
"""What the name of a file is followed by in that of the tokenizer which belongs to it."""
KEY = "understudy"
"""Under which name a file carries its card, as JSON."""


class FileInput(Spec):
    """One input of an exported file."""

    name: str
    shape: tuple[int, ...]
    """Of one sample, without the batch."""
    dtype: str
    """As torch calls it, such as ``float32``."""


class Card(Spec):
    """What somebody who has only the file must know to use it."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    understudy: str
    """The version that wrote the file."""
    task: str
    """The kind of problem, such as ``image_classification``."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the outputs."""
    inputs: tuple[FileInput, ...]
    """What goes in, in order. Images are (channels, height, width) in [0, 1], whatever normalisation the file does."""
    normalisation: dict[str, tuple[float, ...]] | None = None
    """The mean and std that the file itself normalises with; nothing has to be done outside."""
    tokens: AnyTokens | None = None
    """What makes the file's inputs of texts, which is not in it; a tokenizer's path is that of a file beside it."""
    precision: str = "float32"
    """In which numbers most of the work is done: ``float32``, ``int8``."""
    licence: str | None = None
    """Of the weights, as their owner says it."""
    recipe: str | None = None
    """Digest of the recipe that made the model."""
    weights: str | None = None
    """SHA-256 of the weights that were exported."""


def parsed_card(text: str | None, *, whose: str) -> Card | None:
    """The card that a file carries.

    Args:
        text: what was found in it; None for nothing.
        whose: the file, for the error.

    Raises:
        InputError: when it is damaged, or of a later version.
    """
    if text is None:
        return None
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise InputError(
            f"{whose} carries a card that this version cannot read ({where}: {first['msg']}); update Understudy, or "
            "export the model again"
        ) from error
