"""One tensor that a model takes, and how it is made of an image or of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from understudy.errors import InputError
from understudy.serving.uploads import read_image
from understudy.sources.images import Form
from understudy.tokenizing import bytes_of

_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Expected:
    """One tensor of a sample, without the batch.

    Attributes:
        shape: its dimensions; None for one that may be of any size.
        dtype: of its numbers.
        pixels: whether it is known to be an image in [0, 1].
        text: whether it is a text, as its bytes.
    """

    shape: tuple[int | None, ...]
    dtype: torch.dtype
    pixels: bool = False
    text: bool = False

    @property
    def form(self) -> Form | None:
        """What an image is made into, as data sets do it; None where the tensor is no image of a fixed size."""
        if len(self.shape) != 3 or not self.dtype.is_floating_point:
            return None
        channels, height, width = self.shape
        if channels not in (1, 3) or height is None or width is None:
            return None
        return Form(size=(height, width), channels=channels)

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a tensor may have a shape; a sequence of whole numbers, such as tokens, may also be shorter."""
        if len(shape) == len(self.shape) == 1 and self.shape[0] and not self.dtype.is_floating_point:
            return 1 <= shape[0] <= self.shape[0]
        return len(shape) == len(self.shape) and all(
            size == known or (known is None and size > 0) for size, known in zip(shape, self.shape, strict=True)
        )

    def read_text(self, value: Any, *, whose: str = "input") -> Tensor:
        """A text, or a pair of texts, as its bytes, uint8 (bytes,).

        Args:
            value: a text; ``["first", "second"]``; or a mapping of ``text`` and, for a pair, ``pair``.
            whose: what to call it in errors.

        Raises:
            InputError: for anything else.
        """
        if isinstance(value, Mapping) and set(value) in ({"text"}, {"text", "pair"}):
            value = value["text"] if "pair" not in value else [value["text"], value["pair"]]
        if isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value):
            return bytes_of([(value[0], value[1])])[0]
        if not isinstance(value, str):
            raise InputError(f"{whose} is a {type(value).__name__}; the model takes {self}")
        return bytes_of([value])[0]

    def opened(self, data: bytes, *, whose: str = "input") -> Image.Image:
        """An encoded image, of which only the header is read.

        Args:
            data: the file.
            whose: what to call it in errors.

        Raises:
            InputError: when it is no image, or the model takes none.
        """
        if self.form is None:
            raise InputError(f"{whose} is no JSON or .npy file; the model takes no images but {self}")
        return read_image(data, whose=whose)

    def decoded(self, image: Image.Image, *, whose: str = "input") -> Tensor:
        """An image as the model saw images in training: float (channels, height, width) in [0, 1].

        Args:
            image: as :meth:`opened` gives it.
            whose: what to call it in errors.

        Raises:
            InputError: when it cannot be decoded.
        """
        form = self.form
        assert form is not None
        try:
            pixels = form.pixels(image)
        except ValueError as error:
            raise InputError(f"{whose} {error}") from error
        return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C")).float().div_(255).to(self.dtype)

    def numbers(self, values: Any, *, whose: str = "input") -> Tensor:
        """An array or nested lists of numbers; an image's bytes become [0, 1], and its channels may come last.

        Args:
            values: the numbers.
            whose: what to call them in errors.

        Raises:
            InputError: when they are not finite numbers of this shape, or pixels beyond [0, 1].
        """
        array = self._channels_first(_array(values, whose))
        if not self.fits(array.shape):
            raise InputError(f"{whose} has shape {array.shape}; the model takes {self}")
        if array.dtype.kind == "f" and not self.dtype.is_floating_point:
            raise InputError(f"{whose} holds {array.dtype}; the model takes {self}, whole numbers")
        tensor = torch.from_numpy(np.array(array, order="C")).to(self.dtype)
        if not torch.isfinite(tensor).all():
            raise InputError(f"{whose} holds NaN, infinity, or numbers too large for {self}; expected finite ones")
        if self.form is None:
            return tensor
        if array.dtype == np.uint8:
            return tensor.div_(255)
        low, high = float(tensor.min()), float(tensor.max())
        bytes_perhaps = low >= 0 and 1 < high <= 255 and bool((tensor == tensor.round()).all())
        if bytes_perhaps or (self.pixels and (low < 0 or high > 1)):
            raise InputError(
                f"{whose} has values from {low:g} to {high:g}; the model takes pixels in [0, 1], so divide bytes by "
                "255. It applies its mean and standard deviation itself"
            )
        return tensor

    def _channels_first(self, array: np.ndarray) -> np.ndarray:
        if self.form is None or self.fits(array.shape):
            return array
        if array.ndim == 3 and self.fits((array.shape[2], *array.shape[:2])):
            return array.transpose(2, 0, 1)
        return array[None] if array.ndim == 2 else array

    def __str__(self) -> str:
        if self.text:
            return "a text, or a list of two"
        sizes = " × ".join("any" if size is None else str(size) for size in self.shape)
        return f"{sizes or 'one'} {str(self.dtype).removeprefix('torch.')}"


def _array(values: Any, whose: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{whose} is a list of parts of different lengths; expected an array of numbers") from error
    if array.dtype.kind not in "biuf":
        what = {"U": "text", "O": "other things than numbers, or numbers too large"}.get(array.dtype.kind, "no numbers")
        raise InputError(f"{whose} holds {what}; expected an array of numbers")
    if array.dtype == np.uint64:
        if array.size and int(array.max()) > _LARGEST:
            raise InputError(f"{whose} holds {int(array.max())}, a number too large")
        return array.astype(np.int64)
    return array
