"""Choosing samples by class, at random but always the same: by the sample's id and a seed."""

from __future__ import annotations

import torch
from torch import Tensor

from understudy.batch import IGNORE_INDEX
from understudy.errors import InputError
from understudy.views import random_bits


def chosen(targets: Tensor, ids: Tensor, amount: int | float, key: tuple[int, ...], *, what: str) -> Tensor:
    """Choose labelled samples, balanced over their classes.

    A sample's rank depends on its id and the key alone: a larger amount contains a smaller one.

    Args:
        targets: int64 (N,); samples at ``IGNORE_INDEX`` are never chosen.
        ids: int64 (N,).
        amount: a number of samples, spread over the classes as evenly as they allow; or a fraction in (0, 1)
            of each class, at least one sample of each.
        key: another key chooses other samples.
        what: what is being chosen, for messages: the name of the user's field.

    Returns:
        Their indices, ascending.

    Raises:
        InputError: for a number that is smaller than the number of classes, or larger than there are samples.
    """
    labelled = (targets != IGNORE_INDEX).nonzero().flatten()
    classes, available = targets[labelled].unique(return_counts=True)
    total = len(labelled)
    count = amount if isinstance(amount, int) else max(round(amount * total), len(classes))
    if not len(classes) <= count <= total:
        raise InputError(
            f"`{what}: {amount}` cannot be met: there are {total:,} labelled samples in {len(classes)} classes; "
            f"expected a number from {len(classes)} (one of each class) to {total:,}, or a fraction between 0 and 1"
        )
    wanted = spread(available, count) if isinstance(amount, int) else shared(available, count)
    ranked = labelled[random_bits(ids[labelled], *key).argsort(stable=True)]
    of_class = targets[ranked]
    taken = [ranked[of_class == label][:number] for label, number in zip(classes, wanted, strict=True)]
    return torch.cat(taken).sort().values


def spread(available: Tensor, count: int) -> Tensor:
    """How many to take of each class so that the numbers are as equal as the classes allow.

    Example:
        >>> spread(torch.tensor([9, 1, 9]), 8).tolist()
        [4, 1, 3]
    """
    taken = torch.zeros_like(available)
    while (left := count - int(taken.sum())) > 0:
        open_classes = (taken < available).nonzero().flatten()
        share = max(left // len(open_classes), 1)
        open_classes = open_classes[:left]
        taken[open_classes] = torch.minimum(taken[open_classes] + share, available[open_classes])
    return taken


def shared(available: Tensor, count: int) -> Tensor:
    """How many to take of each class so that their proportions stay: largest remainders, at least one of each.

    Example:
        >>> shared(torch.tensor([90, 10, 2]), 10).tolist()
        [8, 1, 1]
    """
    exact = available.double() * count / available.sum()
    taken = exact.floor().long().clamp(min=1)
    while (left := count - int(taken.sum())) != 0:
        gap = exact - taken
        gap[taken <= 1] += 2.0 * (left < 0) * count  # never below one of each
        step = 1 if left > 0 else -1
        taken[(gap * step).argmax()] += step
    return taken
