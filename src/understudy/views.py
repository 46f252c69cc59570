"""Augmented views of images and texts: pure functions of (seed, sample id, view number), for a whole batch at once.

Nothing here has a state or reads a global random number generator. What a sample looks like in view 3 does not
depend on the batch it is in, on the order, the process or the device, so that a teacher recorded on views
0 … V-1 saw, bit for bit, what the student is shown. An image that is mixed with another has its partner drawn from
the whole split, for the same reason: only the split decides beside these three, never the batch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, final

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from understudy.errors import InputError
from understudy.spec import Spec
from understudy.word_views import kept_words, runs, without, word_numbers

Pixels = Annotated[int, Field(ge=0)]
Concentration = Annotated[float, Field(ge=0.0)]
Chance = Annotated[float, Field(gt=0.0, lt=1.0)]

_SHIFT_Y, _SHIFT_X, _CROP_Y, _CROP_X, _FLIP, _CUTOUT_Y, _CUTOUT_X, _PARTNER, _SHARE, _BOX_Y, _BOX_X = range(11)
_WORD, _RUN, _RUN_LENGTH, _RUN_PLACE = range(11, 15)
"""Each draw has its own stream, so that switching one kind of change on does not alter the others."""
_FINE = 1 << 30
"""Numbers that a uniform one is drawn from."""
_OF_TEXTS = ("word_dropout", "ngrams")


@final
class Views(Spec):
    """Random changes of an image, or of a text, that keep its meaning. The default changes nothing.

    Those of images are applied in the order crop, flip, shift, cutout. Last comes mixing: with another sample of the
    split, as it looks in the same view. Teacher and student see the same mixed image, and what the teacher says about
    that is the target (Beyer et al. 2022, arXiv:2106.05237).

    Example:
        >>> Views(shift=2).describe()
        'shifted by up to 2 px'
    """

    shift: Pixels = 0
    """Moved by up to this many pixels up or down and left or right; black comes in. (What is often called a
    random crop after zero padding.)"""
    crop_padding: Pixels = 0
    """Cropped at random to its own size after this many pixels were added by reflection on each side."""
    flip: bool = False
    """Mirrored left to right, every second time."""
    cutout: Pixels = 0
    """A black square of this side, its centre anywhere in the image (DeVries, Taylor 2017, arXiv:1708.04552)."""
    mixup: Concentration = 0.0
    """Averaged with another image, whose share is drawn from Beta(α, α) with this α: 1 makes all shares equally likely,
    smaller ones prefer nearly pure images; 0: off (Zhang et al. 2018, arXiv:1710.09412)."""
    cutmix: Concentration = 0.0
    """A box of another image is pasted in; the share that is left is drawn as for ``mixup``, before the box is clipped
    at the border (Yun et al. 2019, arXiv:1905.04899). One of the two at most."""

    word_dropout: Chance | None = None
    """Of texts: each word is left out with this probability; one of them always stays."""
    ngrams: Chance | None = None
    """Of texts: with this probability only a run of one to five words is left (Tang et al. 2019, arXiv:1903.12136,
    whose 0.25, beside 0.1 for single words, makes many texts out of few; what they say is for a teacher to judge)."""

    @model_validator(mode="after")
    def _images_or_texts(self) -> Views:
        others = [name for name in type(self).model_fields if name not in _OF_TEXTS and getattr(self, name)]
        if self.of_texts and others:
            raise ValueError(f"{' and '.join(others)} changes images, the others change texts; expected one kind")
        return self

    @model_validator(mode="after")
    def _mixed_once(self) -> Views:
        if self.mixup and self.cutmix:
            raise ValueError("`mixup` and `cutmix` are both given, expected one of them")
        return self

    @property
    def changes(self) -> bool:
        """Whether a view can differ from the image."""
        return self != Views()

    @property
    def of_texts(self) -> bool:
        """Whether texts are what is changed."""
        return any(getattr(self, name) is not None for name in _OF_TEXTS)

    @property
    def mixes(self) -> bool:
        """Whether a view shows two samples at once."""
        return bool(self.mixup or self.cutmix)

    def describe(self) -> str:
        """One line for a report."""
        parts = []
        if self.crop_padding:
            parts.append(f"cropped after {self.crop_padding} px of reflected padding")
        if self.flip:
            parts.append("mirrored at random")
        if self.shift:
            parts.append(f"shifted by up to {self.shift} px")
        if self.cutout:
            parts.append(f"a square of {self.cutout} px cut out")
        if self.mixup:
            parts.append(f"averaged with another by mixup, α = {self.mixup:g}")
        if self.cutmix:
            parts.append(f"a box of another pasted in by cutmix, α = {self.cutmix:g}")
        if self.word_dropout is not None:
            parts.append(f"each word left out with a probability of {self.word_dropout:g}")
        if self.ngrams is not None:
            parts.append(f"a run of a few words instead with a probability of {self.ngrams:g}")
        return ", ".join(parts) or "shown as they are"

    def apply(self, images: Tensor, ids: Tensor, *, view: int, seed: int) -> Tensor:
        """What the samples look like in one view, each for itself; :meth:`mix` comes after it.

        Args:
            images: (N, C, H, W), float or uint8; or texts, uint8 (N, bytes); not changed.
            ids: int64 (N,), the stable id of each sample.
            view: number of the view; during training the epoch.
            seed: another seed gives other views of everything.

        Returns:
            (N, C, H, W), same type as ``images``; of texts uint8 (N, bytes of the longest).

        Raises:
            InputError: for anything but images, or texts, with one id each, or a reflected padding as large as the
                image.
        """
        self._check(images, ids)
        if not self.changes or not len(images):
            return images
        draws = _Draws(ids, view=view, seed=seed)
        if self.of_texts:
            return self._fewer_words(images, draws)
        if self.crop_padding:
            images = _cropped(images, self.crop_padding, draws)
        if self.flip:
            images = _flipped(images, draws)
        if self.shift:
            images = _shifted(images, self.shift, draws)
        if self.cutout:
            images = _cut_out(images, self.cutout, draws)
        return images.contiguous()

    def _fewer_words(self, texts: Tensor, draws: _Draws) -> Tensor:
        numbers = word_numbers(texts)
        words = int(numbers.max()) + 1
        if not words:
            return texts
        kept = torch.ones(len(texts), words, dtype=torch.bool, device=texts.device)
        if self.ngrams is not None:
            chosen = (draws.uniform(stream) for stream in (_RUN, _RUN_LENGTH, _RUN_PLACE))
            kept = runs(numbers, *chosen, share=self.ngrams)
        if self.word_dropout is not None:
            # Words outside a run are not there to be dropped: their draws are below all others.
            each = torch.where(kept, draws.uniform_each(words, _WORD), -1.0)
            kept = kept & kept_words(numbers, each, dropout=self.word_dropout)
        return without(texts, numbers, kept)

    def partners(self, ids: Tensor, *, among: int | Tensor, view: int, seed: int) -> Tensor:
        """Which sample each one is mixed with, as a position among those that are possible.

        Args:
            ids: int64 (N,).
            among: how many are possible; for all alike, or int64 (N,). A sample can meet itself.
            view: number of the view.
            seed: of the views.

        Returns:
            int64 (N,), in [0, ``among``).
        """
        return _Draws(ids, view=view, seed=seed).below(among, _PARTNER)

    def mix(self, images: Tensor, others: Tensor, ids: Tensor, *, view: int, seed: int) -> tuple[Tensor, Tensor]:
        """Each image mixed with its partner's.

        Args:
            images: float or uint8 (N, C, H, W), as :meth:`apply` left them; not changed.
            others: the same for their partners.
            ids: int64 (N,), of ``images``; they decide alone how it is done.
            view: number of the view.
            seed: of the views.

        Returns:
            The mixed images on the scale of ``images``, float32 for mixup, of the same type for cutmix; and the share
            of the first image in each, float32 (N,) in [0, 1]. A mixed image is share · first + (1 - share) · other,
            for cutmix as a number of pixels, and the labels weigh as much.
        """
        draws = _Draws(ids, view=view, seed=seed)
        shares = _shares(self.mixup or self.cutmix, ids.device)[draws.below(_LEVELS, _SHARE)]
        if self.cutmix:
            other_part, shares = _box(shares, images, draws)
            return (images * (1 - other_part)).add_(others * other_part), shares
        part = shares[:, None, None, None]
        copies = (each.to(torch.float32, copy=True) for each in (images, others))
        return next(copies).mul_(part).add_(next(copies).mul_(1.0 - part)), shares

    def _check(self, images: Tensor, ids: Tensor) -> None:
        if self.of_texts:
            if images.ndim != 2 or images.dtype != torch.uint8 or ids.shape != images.shape[:1]:
                raise InputError(
                    f"views with fewer words are made of texts, uint8 (N, bytes), with one id each (N,), got inputs "
                    f"{tuple(images.shape)} {images.dtype} and ids {tuple(ids.shape)}"
                )
            return
        if images.ndim != 4 or ids.shape != images.shape[:1]:
            raise InputError(
                f"views are made of images (N, C, H, W) with one id each (N,), got inputs {tuple(images.shape)} "
                f"and ids {tuple(ids.shape)}"
            )
        if self.crop_padding >= min(images.shape[-2:]):
            raise InputError(
                f"crop_padding: {self.crop_padding} reflects more than images of {images.shape[-2]}×"
                f"{images.shape[-1]} pixels hold; expected less than their shorter side"
            )


def random_bits(ids: Tensor, *key: int) -> Tensor:
    """64 random bits for each id under a key: SplitMix64 at position ``id`` (Steele, Lea, Flood 2014).

    Args:
        ids: int64, any shape and device.
        key: whole numbers such as (seed, view, purpose); another key gives independent bits.

    Returns:
        int64, shape of ``ids``; all bits are used, so half of the values are negative.
    """
    return _mix_(ids * _signed(_GAMMA) + _signed(folded(*key)))


def random_below(bound: int | Tensor, ids: Tensor, *key: int) -> Tensor:
    """A whole number in [0, bound) for each id under a key, uniform to one part in 2³²; ``bound`` < 2³¹, or (N,)."""
    return ((random_bits(ids, *key) >> 32 & 0xFFFF_FFFF) * bound) >> 32


def folded(*key: int) -> int:
    """One number in [0, 2⁶⁴) for several, for seeding; the order matters."""
    value = len(key)
    for number in key:
        value = (value ^ number) + _GAMMA & _MASK
        value = (value ^ value >> 30) * _FACTOR_1 & _MASK
        value = (value ^ value >> 27) * _FACTOR_2 & _MASK
        value ^= value >> 31
    return value


_MASK = 2**64 - 1
_GAMMA, _FACTOR_1, _FACTOR_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _signed(value: int) -> int:
    """The int64 with the same 64 bits; products and sums of int64 tensors wrap around like those of uint64."""
    return value - 2**64 if value >= 2**63 else value


def _mix_(value: Tensor) -> Tensor:
    """SplitMix64's output function, in place. int64 shifts copy the sign, hence the masks."""
    value ^= value >> 30 & (1 << 34) - 1
    value *= _signed(_FACTOR_1)
    value ^= value >> 27 & (1 << 37) - 1
    value *= _signed(_FACTOR_2)
    value ^= value >> 31 & (1 << 33) - 1
    return value


class _Draws:
    """The random numbers of one view, one per sample and stream."""

    def __init__(self, ids: Tensor, *, view: int, seed: int) -> None:
        self._ids, self._key = ids, (seed, view)

    def below(self, bound: int | Tensor, stream: int) -> Tensor:
        return random_below(bound, self._ids, *self._key, stream)

    def uniform(self, stream: int) -> Tensor:
        """Float64 (N,) in [0, 1)."""
        return self.below(_FINE, stream).double() / _FINE

    def uniform_each(self, count: int, stream: int) -> Tensor:
        """Float64 (N, count) in [0, 1), for parts of the samples, whose draws do not depend on how many there are."""
        own = random_bits(self._ids, *self._key, stream)
        parts = torch.arange(count, device=own.device)
        return random_below(_FINE, own[:, None] + parts).double() / _FINE


def _cropped(images: Tensor, padding: int, draws: _Draws) -> Tensor:
    padded = _reflected(_reflected(images, padding, 2), padding, 3)
    return _windows(padded, draws.below(2 * padding + 1, _CROP_Y), draws.below(2 * padding + 1, _CROP_X), padding)


def _shifted(images: Tensor, shift: int, draws: _Draws) -> Tensor:
    padded = F.pad(images, (shift, shift, shift, shift))
    return _windows(padded, draws.below(2 * shift + 1, _SHIFT_Y), draws.below(2 * shift + 1, _SHIFT_X), shift)


def _flipped(images: Tensor, draws: _Draws) -> Tensor:
    chosen = draws.below(2, _FLIP).nonzero().flatten()
    return images.index_copy(0, chosen, images.index_select(0, chosen).flip(-1))


def _cut_out(images: Tensor, side: int, draws: _Draws) -> Tensor:
    height, width = images.shape[-2:]
    rows = _covered(draws.below(height, _CUTOUT_Y), side, height)
    columns = _covered(draws.below(width, _CUTOUT_X), side, width)
    return images * ~(rows[:, None, :, None] & columns[:, None, None, :])


_LEVELS = 4096


@lru_cache(maxsize=16)
def _shares(concentration: float, device: torch.device) -> Tensor:
    """As many equally likely values of Beta(α, α), float32: a draw is a whole number, hence the same on all devices."""
    from scipy.special import betaincinv  # here, as it takes longer to import than most views to make

    levels = (torch.arange(_LEVELS, dtype=torch.float64) + 0.5) / _LEVELS
    values = betaincinv(concentration, concentration, levels.numpy())
    return torch.as_tensor(values).to(device=device, dtype=torch.float32)


def _box(shares: Tensor, images: Tensor, draws: _Draws) -> tuple[Tensor, Tensor]:
    """A box with 1 - share of the area, its centre anywhere, clipped: (N, 1, H, W), 1 inside; and what it leaves."""
    height, width = images.shape[-2:]
    side = (1.0 - shares).sqrt()
    rows = _covered(draws.below(height, _BOX_Y), (side * height).long()[:, None], height)
    columns = _covered(draws.below(width, _BOX_X), (side * width).long()[:, None], width)
    box = rows[:, None, :, None] & columns[:, None, None, :]
    return box.to(images.dtype), 1.0 - rows.sum(1) * columns.sum(1) / (height * width)


def _covered(centre: Tensor, side: int | Tensor, size: int) -> Tensor:
    """Bool (N, size): which of ``size`` positions ``side``, or (N, 1) of them, around ``centre`` (N,) cover."""
    offset = torch.arange(size, device=centre.device) - (centre[:, None] - side // 2)
    return (offset >= 0) & (offset < side)


def _reflected(images: Tensor, padding: int, dim: int) -> Tensor:
    """Padded on both sides of one dimension, 2 1 | 0 1 2 …; ``F.pad`` does not reflect uint8."""
    before = images.narrow(dim, 1, padding).flip(dim)
    after = images.narrow(dim, images.shape[dim] - 1 - padding, padding).flip(dim)
    return torch.cat([before, images, after], dim)


def _windows(padded: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    """For each sample the part of its padded image that begins at (top, left).

    A window is one contiguous run of memory if whole padded rows are taken, so that the whole batch is a row
    selection from a table of overlapping runs: several times faster than indexing pixel by pixel.
    """
    padded = padded.contiguous()
    count, channels, rows, columns = padded.shape
    height, width = rows - 2 * padding, columns - 2 * padding
    run = ((channels - 1) * rows + height - 1) * columns + width
    table = padded.as_strided((padded.numel() - run + 1, run), (1, 1))
    first = torch.arange(count, device=padded.device) * (channels * rows * columns)
    runs = table.index_select(0, first + top * columns + left)
    return runs.as_strided((count, channels, height, width), (run, rows * columns, columns, 1))
