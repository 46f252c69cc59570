"""How well samples are ordered by each of several labels."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_average_precision


@final
class MeanAveragePrecision(Metric):
    """The area under the curve of precision over recall, exact, averaged over the labels that some sample has."""

    higher_is_better = True
    probabilities: list[Tensor]
    targets: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("probabilities", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, targets: Tensor) -> None:
        """Add samples.

        Args:
            probabilities: (samples, labels).
            targets: int64 (samples, labels), 0 and 1, below 0 where a label is not known.
        """
        self.probabilities.append(probabilities)
        self.targets.append(targets)

    def compute(self) -> Tensor:
        """A scalar, 1 at best; 0 where no sample has any label."""
        together = (
            torch.cat(list(each)) if isinstance(each, list) else each for each in (self.probabilities, self.targets)
        )
        found = []
        for scores, labels in zip(*(each.unbind(1) for each in together), strict=True):
            known = labels >= 0
            if (labels == 1).any():
                found.append(binary_average_precision(scores[known], labels[known]))
        return torch.stack(found).mean() if found else torch.zeros(())
