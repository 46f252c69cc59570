"""A small network that makes images out of noise."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from understudy.errors import InputError

SMALLEST = 8
"""Pixels that an image needs on each side."""
_LEGIBLE, _GAP = 32, 2
"""Pixels that an image in a grid has about, or more, and those between two of them."""


def image_generator(latent: int, shape: tuple[int, int, int], *, widths: tuple[int, ...]) -> nn.Sequential:
    """Noise to images in [0, 1]: a small picture of features, enlarged block by block.

    Layers: ``project``, ``unflatten``, ``norm``, then ``block1``, ``block2`` and so on (nearest-neighbour doubling,
    3×3 convolution, batch norm, leaky ReLU), then ``paint`` (convolution, batch norm, sigmoid). Each block doubles
    the sides, up to those of the image; sides that are odd on the way are rounded up. As in the generators of DAFL and
    DFAD, batch norm comes before the pixels too; here a sigmoid follows it, since images of this library lie in
    [0, 1]. Batch norm always uses the batch: the network has no buffers and is the same in train and eval mode.

    Args:
        latent: values of noise per image.
        shape: (channels, height, width) of the images.
        widths: channels of each block, from the noise on.
    """
    channels, height, width = shape
    sides = [(height, width)]
    for _ in widths:
        sides.append((-(-sides[-1][0] // 2), -(-sides[-1][1] // 2)))
    smallest, *larger = reversed(sides)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        project=nn.Linear(latent, widths[0] * smallest[0] * smallest[1]),
        unflatten=nn.Unflatten(1, (widths[0], *smallest)),
        norm=_norm(widths[0]),
    )
    inner = widths[0]
    for number, (side, outer) in enumerate(zip(larger, widths, strict=True), start=1):
        layers[f"block{number}"] = nn.Sequential(
            OrderedDict(
                enlarge=nn.Upsample(size=side),
                conv=nn.Conv2d(inner, outer, kernel_size=3, padding=1, bias=False),
                norm=_norm(outer),
                relu=nn.LeakyReLU(0.2),
            )
        )
        inner = outer
    paint: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(inner, channels, kernel_size=3, padding=1, bias=False),
        norm=_norm(channels),
        sigmoid=nn.Sigmoid(),
    )
    layers["paint"] = nn.Sequential(paint)
    return nn.Sequential(layers)


def image_shape(inputs: Any) -> tuple[int, int, int]:
    """(channels, height, width) of the images in a batch.

    Raises:
        InputError: when they are no images, or too small to be generated.
    """
    if isinstance(inputs, Tensor) and inputs.ndim == 4 and min(inputs.shape[2:]) >= SMALLEST:
        channels, height, width = inputs.shape[1:]
        return channels, height, width
    shown = f"shape (N, {', '.join(map(str, inputs.shape[1:]))})" if isinstance(inputs, Tensor) else "no tensor"
    raise InputError(
        f"a generator makes images (N, channels, height, width) of {SMALLEST}×{SMALLEST} pixels or more, and the data "
        f"give inputs of {shown}; expected task: image_classification and images. Use a distill stage for other data"
    )


def save_grid(images: Tensor, path: Path, *, columns: int = 10) -> None:
    """Save images as one PNG, row by row, small ones enlarged; other than three channels are shown as their mean, grey.

    Args:
        images: (count, channels, height, width) in [0, 1].
        path: the file; it is replaced.
        columns: images in a row; a last row that is not full is left out.
    """
    images = images.detach().cpu()
    if images.shape[1] != 3:
        images = images.mean(1, keepdim=True)
    enlarged = images.repeat_interleave(factor := max(1, _LEGIBLE // images.shape[2]), 2).repeat_interleave(factor, 3)
    framed = F.pad(enlarged, (0, _GAP, 0, _GAP), value=1.0)
    rows = [torch.cat(list(row), dim=2) for row in framed.split(columns) if len(row) == columns]
    pixels = torch.cat(rows, dim=1).mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, track_running_stats=False)
