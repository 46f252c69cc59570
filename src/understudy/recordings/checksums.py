"""Numbers by which inputs are recognised, bit for bit."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from understudy.batch import tensors_of
from understudy.views import random_bits

_AT_ONCE = 64
"""Samples whose words are multiplied at once, which keeps them in the CPU's cache."""


def input_checksums(inputs: Any) -> Tensor:
    """A number for each sample that is another one, but for one chance in 2³², when any bit of its inputs is.

    It depends on neither the batch, nor the order in which a device adds, nor the number of threads.

    Args:
        inputs: a tensor (n, …), or a tuple or mapping of them.

    Returns:
        int32 (n,), on the device of the inputs.

    Raises:
        ValueError: without a tensor.
    """
    sums = [_weighted_sum(tensor) for tensor in tensors_of(inputs)]
    if not sums:
        raise ValueError("expected at least one input tensor")
    total = torch.zeros_like(sums[0])
    for one in sums:
        total = random_bits(total + one)
    return (total >> 32).to(torch.int32)


def _weighted_sum(tensor: Tensor) -> Tensor:
    """int64 (n,): the sum of all words of a sample, each times an odd number that goes with its place."""
    words = _words(tensor.detach().reshape(len(tensor), math.prod(tensor.shape[1:])).contiguous())
    factors = random_bits(torch.arange(words.shape[1], device=words.device)) | 1
    return torch.cat([(part * factors).sum(1) for part in words.split(_AT_ONCE)])


def _words(flat: Tensor) -> Tensor:
    """Whole numbers of at most 32 bits with the bits of a sample; the highest of 64 would be lost in a product."""
    if flat.element_size() == 1:
        return flat.view(torch.uint8)
    return flat.view(torch.int16 if flat.element_size() == 2 else torch.int32)
