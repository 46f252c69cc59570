"""The base of every value that a recipe can hold: frozen, strict, equal by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class Spec(BaseModel):
    """A frozen, typed value. The same object in Python and in a recipe; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    def asked(self) -> dict[str, Any]:
        """What was asked for, as JSON, without the keys that are None.

        A key that a later version adds, and nobody has set, changes no digest, and makes no training begin anew.
        """
        return self.model_dump(mode="json", exclude_none=True)

    def digest(self) -> str:
        """A short hash of the content, equal for equal values in any process (first 16 hex digits of SHA-256)."""
        return digest(self.asked())


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
