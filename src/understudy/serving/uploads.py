"""Bytes from strangers: images, NumPy arrays and JSON, read so that no file can do harm."""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic_core import from_json

from understudy.errors import InputError

MAX_PIXELS = 50_000_000
"""Of one image: what a telephone takes, and 150 MB once it is decoded."""
_FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "PPM")
"""Of images; Pillow knows others, such as EPS, which runs a program to read it."""
_NPY = b"\x93NUMPY"
_JSON = frozenset(b'[{"-0123456789')

Kind = Literal["image", "array", "json"]


def kind_of(data: bytes) -> Kind:
    """What some bytes must be, by how they begin; an image when they begin like neither of the others."""
    if data.startswith(_NPY):
        return "array"
    begins = data[:64].lstrip()[:1]
    return "json" if begins and begins[0] in _JSON else "image"


def read_image(data: bytes, *, whose: str) -> Image.Image:
    """Open an image, of which only the header is read and judged; its first frame, where it has several.

    Args:
        data: the file, in a format that cameras and web pages use.
        whose: what to call it in errors.

    Returns:
        The image, not decoded yet but for 16-bit grey PNG: those lose their lower byte, as Pillow does it in colour.

    Raises:
        InputError: when it is broken, too large, or no image.
    """
    Image.init()  # Pillow loads its rarer formats only after the usual ones failed
    try:
        image = Image.open(io.BytesIO(data), formats=[name for name in _FORMATS if name in Image.OPEN])
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise InputError(f"{whose} has {width:,} × {height:,} pixels; expected {MAX_PIXELS:,} in all at most")
        if image.format == "PNG" and image.mode == "I;16":
            information = image.info
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            image.info = information
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{whose} has far too many pixels; expected {MAX_PIXELS:,} at most") from error
    except Image.UnidentifiedImageError as error:
        raise InputError(f"{whose} ({len(data):,} bytes) is no image; expected one of {', '.join(_FORMATS)}") from error
    except Exception as error:  # each format has errors of its own for what is broken
        raise InputError(f"{whose} is a broken image: {error}") from error
    return image


def read_array(data: bytes, *, whose: str) -> np.ndarray:
    """A ``.npy`` file of numbers; nothing is unpickled, and nothing larger than the file is allocated.

    Args:
        data: the file.
        whose: what to call it in errors.

    Raises:
        InputError: for anything else, or a file that was cut off.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
    except Exception as error:  # of NumPy's parser of headers, for which it has no class
        raise InputError(f"{whose} is no .npy file: {error}") from error
    if dtype.kind not in "biuf":
        raise InputError(f"{whose} holds {dtype}; expected numbers")
    there, needed = len(data) - stream.tell(), dtype.itemsize
    for size in shape:
        needed *= size
    if needed != there:
        raise InputError(f"{whose} is damaged: {shape} {dtype} takes {needed:,} bytes, and {there:,} are there")
    stream.seek(0)
    array = np.load(stream, allow_pickle=False)
    return array.astype(dtype.newbyteorder("="), copy=False)


def read_json(data: bytes, *, whose: str) -> Any:
    """A JSON value.

    Raises:
        InputError: when it is none; NaN and infinity are no JSON.
    """
    try:
        return from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise InputError(f"{whose} is no JSON: {error}") from error
