"""The forms of a feature: a map, tokens, a vector; and how one is read as another."""

import math

from jaxtyping import Float
from torch import Tensor

from understudy.errors import InputError

_MOST_PREFIX_TOKENS = 5
"""A class or a distillation token or both, and registers, before the patches."""


def as_map(feature: Float[Tensor, "batch *rest"]) -> Float[Tensor, "batch channels height width"]:
    """Read a feature as a map; tokens are laid out on their square, tokens before the patches are left out.

    Args:
        feature: (N, C, H, W), (N, T, C) with T = side² + up to five tokens in front, or (N, C), a map of one pixel.

    Returns:
        (N, C, H, W).

    Raises:
        InputError: when the tokens are no square.

    Example:
        >>> import torch
        >>> as_map(torch.zeros(2, 1 + 14 * 14, 768)).shape
        torch.Size([2, 768, 14, 14])
    """
    if feature.ndim == 4:
        return feature
    if feature.ndim == 2:
        return feature[:, :, None, None]
    if feature.ndim == 3:
        side = math.isqrt(feature.shape[1])
        prefix = feature.shape[1] - side * side
        if side > 1 and prefix <= _MOST_PREFIX_TOKENS:
            patches = feature[:, prefix:]
            return patches.transpose(1, 2).unflatten(2, (side, side))
    raise InputError(
        f"a feature of shape {_shown(feature)} cannot be read as a map; expected (N, C, H, W), (N, C), or patch "
        f"tokens (N, T, C) on a square with at most {_MOST_PREFIX_TOKENS} tokens before them"
    )


def as_vector(feature: Float[Tensor, "batch *rest"]) -> Float[Tensor, "batch channels"]:
    """Read a feature as one vector per sample: the mean over its pixels, or over its tokens.

    Args:
        feature: (N, C), (N, T, C) or (N, C, H, W).

    Returns:
        (N, C).

    Raises:
        InputError: for another number of dimensions.

    Example:
        >>> import torch
        >>> as_vector(torch.ones(2, 64, 7, 7)).shape
        torch.Size([2, 64])
    """
    if feature.ndim == 2:
        return feature
    if feature.ndim == 3:
        return feature.mean(1)
    if feature.ndim == 4:
        return feature.mean((2, 3))
    raise InputError(
        f"a feature of shape {_shown(feature)} cannot be read as a vector per sample; expected (N, C), (N, T, C) or "
        "(N, C, H, W)"
    )


def as_tokens(feature: Float[Tensor, "batch *rest"]) -> Float[Tensor, "batch tokens channels"]:
    """Read a feature as tokens: each pixel of a map is one, row by row; a vector is a single one.

    Args:
        feature: (N, T, C), (N, C, H, W) or (N, C).

    Returns:
        (N, T, C).

    Raises:
        InputError: for another number of dimensions.

    Example:
        >>> import torch
        >>> as_tokens(torch.ones(2, 64, 7, 7)).shape
        torch.Size([2, 49, 64])
    """
    if feature.ndim == 3:
        return feature
    if feature.ndim == 2:
        return feature[:, None]
    if feature.ndim == 4:
        return feature.flatten(2).transpose(1, 2)
    raise InputError(
        f"a feature of shape {_shown(feature)} cannot be read as tokens; expected (N, T, C), (N, C, H, W) or (N, C)"
    )


def as_first_token(feature: Float[Tensor, "batch *rest"]) -> Float[Tensor, "batch channels"]:
    """The first token of each sample: the class token, where a network puts one there.

    Args:
        feature: (N, T, C), or (N, C), a single token.

    Returns:
        (N, C).

    Raises:
        InputError: for a map, which has no first token.

    Example:
        >>> import torch
        >>> as_first_token(torch.ones(2, 197, 768)).shape
        torch.Size([2, 768])
    """
    if feature.ndim == 2:
        return feature
    if feature.ndim == 3:
        return feature[:, 0]
    raise InputError(
        f"a feature of shape {_shown(feature)} has no first token; expected the output of a transformer's block, "
        "(N, T, C), or (N, C)"
    )


def _shown(feature: Tensor) -> str:
    return f"({', '.join(['N', *map(str, feature.shape[1:])])})"
