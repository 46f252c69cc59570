"""The base of every value that a recipe can hold: frozen, strict, equal by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class Spec(BaseModel):
    """A frozen, typed value. The same object in Python and in a recipe; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    def digest(self) -> str:
        """A short hash of the content, equal for equal values in any process (first 16 hex digits of SHA-256)."""
        return digest(self.model_dump(mode="json"))


def refuse(problems: Sequence[tuple[tuple[str | int, ...], str]]) -> None:
    """Refuse a value from inside its validator for several reasons at once, each at its own key.

    Args:
        problems: for each the path of the key inside the value, and what is wrong there; none passes.

    Raises:
        PydanticCustomError: which pydantic makes into a ``ValidationError``.
    """
    if problems:
        text = "\n".join(f"{'.'.join(map(str, path))}: {message}" for path, message in problems)
        raise PydanticCustomError("problems", "{text}", {"text": text, "problems": list(problems)})


def digest(value: object) -> str:
    """Hash any JSON value by content; key order does not matter (first 16 hex digits of SHA-256)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
