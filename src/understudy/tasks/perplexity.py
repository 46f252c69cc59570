"""How well a language model knows what comes next."""

from __future__ import annotations

import math
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric


class _Surprise(Metric):
    """The mean of -log p over the targets, in nats."""

    higher_is_better = False
    nats: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("nats", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add positions.

        Args:
            logits: (positions, vocabulary).
            targets: int64 (positions,).
        """
        self.nats += F.cross_entropy(logits.float(), targets, reduction="none").double().sum()
        self.count += len(targets)


@final
class Bits(_Surprise):
    """Bits per token: of characters or bytes, bits per character or byte."""

    def compute(self) -> Tensor:
        """A scalar, 0 at best."""
        return self.nats / self.count / math.log(2)


@final
class Perplexity(_Surprise):
    """Among how many equally likely tokens the next one would be as hard to guess."""

    def compute(self) -> Tensor:
        """A scalar, 1 at best."""
        return (self.nats / self.count).exp()
