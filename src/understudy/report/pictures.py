"""Pictures of samples, inlined so that the page needs no other file."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

LARGEST = 160
"""Pixels of the longer side; larger pictures are scaled down to keep the page small."""


def picture(directory: Path | None, relative: str | None, *, largest: int = LARGEST) -> str | None:
    """A picture in a run directory as a ``data:`` address.

    Args:
        directory: the run directory; None when the report was read back from JSON.
        relative: path of the picture in it.
        largest: pixels of the longer side at most.

    Returns:
        The address, or None when there is no such picture: missing, torn, not an image, or outside the run.
    """
    if directory is None or relative is None:
        return None
    path = (directory / relative).resolve()
    if not path.is_relative_to(directory.resolve()) or not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            image.load()
            return _address(image, largest)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
        return None


def _address(image: Image.Image, largest: int) -> str:
    """Written anew, so that only pixels get into the page: no metadata, nothing that is not a picture."""
    small = image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGBA")
    if max(small.size) > largest:
        small = small.copy()
        small.thumbnail((largest, largest))
    buffer = io.BytesIO()
    small.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
