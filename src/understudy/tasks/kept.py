"""Metrics that can be told only when all answers are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

if TYPE_CHECKING:
    from collections.abc import Mapping

Measure = Callable[[Tensor, Tensor], Tensor]
"""Takes all answers and all targets, (positions, numbers) each, and gives a scalar."""


@final
class Kept(Metric):
    """Keeps all answers and targets, for a measure of them together.

    Args:
        measure: what is told of them.
    """

    full_state_update = False
    answers: list[Tensor]
    targets: list[Tensor]

    def __init__(self, measure: Measure) -> None:
        super().__init__()
        self._measure = measure
        self.add_state("answers", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, answers: Tensor, targets: Tensor) -> None:
        """Add positions.

        Args:
            answers: (positions, numbers).
            targets: (positions, numbers), as many or others.
        """
        self.answers.append(answers.detach().float())
        self.targets.append(targets.detach().float())

    def compute(self) -> Tensor:
        """A scalar."""
        return self._measure(_together(self.answers), _together(self.targets))


def collection(measures: Mapping[str, Measure]) -> MetricCollection:
    """Metrics that keep what they are about only once.

    Args:
        measures: by name.
    """
    metrics: dict[str, Metric | MetricCollection] = {name: Kept(measure) for name, measure in measures.items()}
    return MetricCollection(metrics, compute_groups=[list(measures)])


def _together(parts: list[Tensor] | Tensor) -> Tensor:
    return parts if isinstance(parts, Tensor) else torch.cat(parts)
