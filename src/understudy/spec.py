"""The base of every value that a recipe can hold: frozen, strict, equal by content."""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A frozen, typed value. The same object in Python and in a recipe; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    def digest(self) -> str:
        """A short hash of the content, equal for equal values in any process (first 16 hex digits of SHA-256)."""
        return digest(self.model_dump(mode="json"))


def digest(value: object) -> str:
    """Hash any JSON value by content; key order does not matter (first 16 hex digits of SHA-256)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
