"""What a client sends: images and arrays as the bytes of files."""

import io
from typing import Any

import numpy as np
from PIL import Image


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """An image as a file."""
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def npy(array: np.ndarray) -> bytes:
    """An array as a file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()
