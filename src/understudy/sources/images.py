"""From encoded images to one uint8 tensor, or to images that are decoded when they are asked for."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from understudy.errors import InputError

_MODES = {1: "L", 3: "RGB"}
_CHANNELS = {mode: channels for channels, mode in _MODES.items()}
_NARROWING = ("I", "F")
"""Modes of more than 8 bits a pixel, which Pillow clips instead of scaling."""

_UNREADABLE = (OSError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for files that are broken, or no images."""

Records = Any
"""A ``datasets.Dataset`` with one column of ``{"bytes": …, "path": …}``."""


@dataclass(frozen=True, slots=True)
class Form:
    """What each image is made into.

    Attributes:
        size: (height, width) to resize to, without keeping the aspect; None: as they are.
        channels: 1 for grey, 3 for colour; None: as they are.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None

    def decode(self, record: dict[str, Any]) -> np.ndarray:
        """One image, (height, width, channels) uint8.

        Raises:
            ValueError: saying what is wrong with it, for the caller to add which one it is.
        """
        try:
            image = _opened(record)
        except _UNREADABLE as error:
            raise ValueError(f"cannot be decoded: {error}") from error
        return self.pixels(image)

    def pixels(self, image: Image.Image) -> np.ndarray:
        """An image that was opened, turned as its camera was held, (height, width, channels) uint8.

        Raises:
            ValueError: as :meth:`decode` does.
        """
        mode = self._mode(image)
        try:
            if "exif" in image.info:
                image = ImageOps.exif_transpose(image)
            if isinstance(image.info.get("transparency"), bytes):
                del image.info["transparency"]  # of a palette; Pillow leaves it out too, with a warning
            image = image.convert(mode)
        except Exception as error:  # each format has errors of its own for what is broken
            raise ValueError(f"cannot be decoded: {error}") from error
        if self.size is not None and image.size != self.size[::-1]:
            height, width = self.size
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
        return pixels[:, :, None] if pixels.ndim == 2 else pixels

    def shape(self, record: dict[str, Any]) -> tuple[int, int, int]:
        """(height, width, channels) that an image will have, from its header alone.

        Raises:
            ValueError: as :meth:`decode` does.
        """
        try:
            image = _opened(record)
        except _UNREADABLE as error:
            raise ValueError(f"cannot be decoded: {error}") from error
        turned = "exif" in image.info and image.getexif().get(274, 1) >= 5
        height, width = self.size or (image.size if turned else image.size[::-1])
        return height, width, _CHANNELS[self._mode(image)]

    def _mode(self, image: Image.Image) -> str:
        if image.mode.startswith(_NARROWING):
            raise ValueError(f"has mode {image.mode}, more than 8 bits a pixel; expected 8 bits, grey or colour")
        if self.channels is not None:
            return _MODES[self.channels]
        if image.mode not in _CHANNELS:
            raise ValueError(f"has mode {image.mode}; expected grey (L) or RGB, or give `channels: 1` or `channels: 3`")
        return image.mode


@dataclass(frozen=True, slots=True)
class LazyImages:
    """Images that stay encoded and are decoded each time they are asked for.

    Attributes:
        records: the encoded images of a whole split.
        rows: int64 (N,), which of them, in order.
        form: what each is made into.
        shape: (N, channels, height, width) of the tensor that they would make.
    """

    records: Records
    rows: Tensor
    form: Form
    shape: tuple[int, int, int, int]

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, indices: Tensor) -> LazyImages:
        """Some of them, still encoded."""
        return replace(self, rows=self.rows[indices], shape=(len(indices), *self.shape[1:]))

    def gather(self, indices: Tensor) -> Tensor:
        """Decode some of them: uint8 (n, channels, height, width).

        Raises:
            InputError: naming an image that cannot be decoded or has another size or mode than the first one.
        """
        rows = self.rows[indices].tolist()
        channels, height, width = self.shape[1:]
        images = np.empty((len(rows), height, width, channels), np.uint8)
        column = self.records.column_names[0]
        records = self.records[rows][column] if rows else []
        _fill(images, zip(rows, records, strict=True), self.form.decode, "")
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def decode_all(records: Records, form: Form, name: str) -> Tensor:
    """Decode a split: uint8 (N, channels, height, width).

    Args:
        records: the encoded images.
        form: what each is made into.
        name: of the split, for messages.

    Raises:
        InputError: naming the images that cannot be decoded, or the first two that differ from the first one.
    """
    images = np.empty((len(records), *first_shape(records, form, name)), np.uint8)
    _fill(images, _enumerated(records), form.decode, f" of split {name!r}")
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def lazy(records: Records, form: Form, name: str) -> LazyImages:
    """The images of a split, left encoded; the headers are read, so that all are known to be alike.

    Raises:
        InputError: as :func:`decode_all` does.
    """
    height, width, channels = first_shape(records, form, name)
    if form.size is None or form.channels is None:
        _compare(_enumerated(records), form.shape, (height, width, channels), f" of split {name!r}")
    return LazyImages(records, torch.arange(len(records)), form, (len(records), channels, height, width))


def first_shape(records: Records, form: Form, name: str) -> tuple[int, int, int]:
    """(height, width, channels) of the first image, which all the others must have."""
    return _checked(form.shape, 0, records[0][records.column_names[0]], f" of split {name!r}")


def _opened(record: dict[str, Any] | None) -> Image.Image:
    if record is None or (record["bytes"] is None and record["path"] is None):
        raise OSError("it is empty")
    data = record["bytes"]
    return Image.open(io.BytesIO(Path(record["path"]).read_bytes() if data is None else data))


def _enumerated(records: Records) -> Iterator[tuple[int, dict[str, Any]]]:
    column = records.column_names[0]
    for start in range(0, len(records), 1000):
        yield from enumerate(records[start : start + 1000][column], start)


def _checked(read: Callable[[dict[str, Any]], Any], row: int, record: dict[str, Any], where: str) -> Any:
    try:
        return read(record)
    except ValueError as error:
        raise InputError(f"image {row}{where} {error}") from error


def _fill(
    images: np.ndarray,
    records: Iterator[tuple[int, dict[str, Any]]] | zip[tuple[int, dict[str, Any]]],
    decode: Callable[[dict[str, Any]], np.ndarray],
    where: str,
) -> None:
    """Decode into ``images``; shapes that differ are collected, so that two offenders can be named."""
    others: list[tuple[int, tuple[int, ...]]] = []
    for position, (row, record) in enumerate(records):
        pixels = _checked(decode, row, record, where)
        if pixels.shape == images.shape[1:]:
            images[position] = pixels
        else:
            others.append((row, pixels.shape))
            if len(others) == 2:
                break
    _refuse(others, images.shape[1:], where)


def _compare(
    records: Iterator[tuple[int, dict[str, Any]]],
    read: Callable[[dict[str, Any]], tuple[int, ...]],
    expected: tuple[int, ...],
    where: str,
) -> None:
    others = []
    for row, record in records:
        shape = _checked(read, row, record, where)
        if shape != expected:
            others.append((row, shape))
            if len(others) == 2:
                break
    _refuse(others, expected, where)


def _refuse(others: list[tuple[int, tuple[int, ...]]], expected: tuple[int, ...], where: str) -> None:
    if not others:
        return
    shown = " and ".join(f"image {row} is {_described(shape)}" for row, shape in others)
    remedies = []
    if any(shape[:2] != expected[:2] for _, shape in others):
        remedies.append(f"`size: [{expected[0]}, {expected[1]}]`")
    if any(shape[2] != expected[2] for _, shape in others):
        remedies.append(f"`channels: {max(expected[2], *(shape[2] for _, shape in others))}`")
    raise InputError(
        f"the images{where} are not alike: the first is {_described(expected)}, {shown}. "
        f"Expected one size and one mode; give {' and '.join(remedies)} to convert them"
    )


def _described(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}×{shape[1]} {'grey' if shape[2] == 1 else 'colour'}"
