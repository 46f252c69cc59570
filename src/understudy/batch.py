"""What a task makes of whatever a data loader yields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

IGNORE_INDEX = -100
"""The target of a position that has no label (the value that ``torch.nn.functional.cross_entropy`` ignores)."""
_PER_SAMPLE = ("inputs", "targets", "mask", "ids", "label_pairs", "shares")


def known(targets: Tensor) -> Tensor:
    """Bool (...): the positions that have a target.

    Args:
        targets: classes, int64 (...), ``IGNORE_INDEX`` where there is none; or numbers, float (..., numbers), of which
            one that is NaN says that nobody knows the target of its position.
    """
    return ~targets.isnan().any(-1) if targets.is_floating_point() else targets != IGNORE_INDEX


def unknown(targets: Tensor) -> Tensor:
    """Targets of the same shape and type, none of which is known.

    Args:
        targets: as for :func:`known`.
    """
    return torch.full_like(targets, float("nan") if targets.is_floating_point() else IGNORE_INDEX)


def contradicting(targets: Tensor, others: Tensor) -> Tensor:
    """Bool (...): the positions that have a target on both sides, and not the same one.

    Args:
        targets: as for :func:`known`.
        others: of the same shape and type.
    """
    differ = targets != others
    return (differ.any(-1) if targets.is_floating_point() else differ) & known(targets) & known(others)


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, ready for any model of the task.

    Attributes:
        inputs: what the model is called with: a tensor, a tuple of positional or a dict of keyword arguments.
        targets: int64 labels, shaped like the logits without their class dimension; ``IGNORE_INDEX`` where
            a position has no label. Of numbers float, shaped like the logits; NaN where nobody knows them. None when
            nothing is labelled.
        mask: bool, one for each position: which count at all (False for padding). None: all do.
        ids: int64 (batch,), the stable id of each sample, for errors and recordings.
        view: number of the augmented view that the inputs show, None where they are as they are.
        label_pairs: int64, the shape of ``targets`` and 2, where every sample is mixed of two: the labels of both,
            ``IGNORE_INDEX`` for one that has none. No single label is true then, so all ``targets`` are
            ``IGNORE_INDEX``, and what reads only those (a metric, a method about the true class) sees no label
            rather than a wrong one. None: nothing is mixed.
        shares: float, the shape of ``targets``, beside ``label_pairs``: how much of each is the first of the two.
        labelled_total: :attr:`supervised` positions per micro-batch and process, averaged over the whole optimizer
            step. Set by the engine when several micro-batches make one step, so that the mean of the parts is the
            mean of the whole. None: this batch stands alone.
        valid_total: the same for the positions that count.
    """

    inputs: Any
    targets: Tensor | None = None
    mask: Tensor | None = None
    ids: Tensor | None = None
    view: int | None = None
    label_pairs: Tensor | None = None
    shares: Tensor | None = None
    labelled_total: Tensor | None = None
    valid_total: Tensor | None = None

    @property
    def labelled(self) -> Tensor:
        """Bool, one for each position: those that carry one label, or all their numbers, and count.

        Raises:
            ValueError: when the batch has no targets.
        """
        if self.targets is None:
            raise ValueError("this batch has no targets")
        labelled = known(self.targets)
        return labelled if self.mask is None else labelled & self.mask

    @property
    def supervised(self) -> Tensor:
        """Bool, one for each position: those whose label is known, of mixed ones both labels, and that count.

        Raises:
            ValueError: when the batch has no targets.
        """
        if self.label_pairs is None:
            return self.labelled
        both = known(self.label_pairs).all(-1)
        return both if self.mask is None else both & self.mask

    @property
    def device(self) -> torch.device:
        """Where the inputs are.

        Raises:
            ValueError: when no input is a tensor.
        """
        for tensor in tensors_of(self.inputs):
            return tensor.device
        raise ValueError("a batch needs at least one input tensor to know its device")

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device; tensors already there are not copied."""
        moved = {name: _to(getattr(self, name), device) for name in self.__slots__}
        return replace(self, **moved)

    def __len__(self) -> int:
        for tensor in (self.targets, self.ids, *tensors_of(self.inputs)):
            if tensor is not None:
                return len(tensor)
        raise ValueError("a batch needs at least one tensor to know its length")


def rows(batch: Batch, index: Tensor | slice) -> Batch:
    """Some rows of a batch, or all in another order; inputs of any structure."""
    count = len(batch)

    def picked(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[index] if value.ndim and len(value) == count else value
        if isinstance(value, Mapping):
            return {key: picked(item) for key, item in value.items()}
        return tuple(picked(item) for item in value) if isinstance(value, tuple | list) else value

    per_row = {name: picked(getattr(batch, name)) for name in _PER_SAMPLE}
    return replace(batch, **per_row)


def tensors_of(inputs: Any) -> list[Tensor]:
    """The tensors that a model is called with, in order."""
    if isinstance(inputs, Tensor):
        return [inputs]
    values = inputs.values() if isinstance(inputs, Mapping) else inputs
    return [value for value in values if isinstance(value, Tensor)]


def _to(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        # A copy to the host that does not block could be read before it has arrived.
        return value.to(device, non_blocking=torch.device(device).type != "cpu")
    if isinstance(value, Mapping):
        return {key: _to(item, device) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(_to(item, device) for item in value)
    return value
