"""Lengths and inner products that stay finite and precise; for losses, not for users."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def precise(values: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """The same in float32, or in float64 if it was."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def unit(rows: Float[Tensor, "*rows channels"], *, least: Tensor | float = 1e-12) -> Float[Tensor, "*rows channels"]:
    """Rows of length one; one not longer than ``least`` becomes zero, and gets no gradient.

    Args:
        rows: (..., channels).
        least: a length, or lengths (..., 1).
    """
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / length.masked_fill(length <= least, math.inf)


def products(
    left: Float[Tensor, "*batch rows channels"], right: Float[Tensor, "*batch columns channels"]
) -> Float[Tensor, "*batch rows columns"]:
    """Inner products of all rows of one with all rows of the other, in full precision under autocast too."""
    with torch.autocast(left.device.type, enabled=False):
        return left @ right.transpose(-1, -2)
