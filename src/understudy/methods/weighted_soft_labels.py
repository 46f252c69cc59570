"""Distillation by soft targets, weighted sample by sample."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from understudy.batch import Batch
from understudy.functional.decoupling import weighted_soft_labels_loss
from understudy.knowledge import Knowledge
from understudy.objective import Method


@final
class WeightedSoftLabels(Method):
    r"""Soft targets that step back where the student already does better on the label than the teacher.

    .. math:: \frac{\tau^2}{|L|} \sum_{i \in L} w_i \, \mathrm{KL}(p^T_i \| p^S_i), \quad
        w_i = 1 - \exp\left(-\frac{\log \mathrm{softmax}(z^S_i)_y}{\log \mathrm{softmax}(z^T_i)_y}\right)

    The weight, between 0 and 1, compares the cross-entropies with the label at temperature 1 (the teacher's plus
    1e-7, as in the authors' code) and is a constant of the loss. Only labelled positions count; for the others add
    ``SoftTargets(rows="unlabelled")``. Scale: summed over classes, averaged over the labelled positions, times
    :math:`\tau^2`; 0 at equality. Paper and code write the cross-entropy instead of the divergence: as the weight
    is constant, the same gradient, shifted by the teacher's entropy. They use a weight of 2.5 beside the
    cross-entropy with the labels. The gradient goes to the student only.

    Example:
        >>> 2.5 * WeightedSoftLabels()
        WeightedSoftLabels(kind='weighted_soft_labels', weight=2.5, name=None, temperature=2.0)
    """

    paper: ClassVar[str] = (
        "Zhou et al.: Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective, "
        "ICLR 2021 (arXiv:2102.00650)"
    )
    needs_one_label: ClassVar[bool] = True
    by_position: ClassVar[bool] = True

    kind: Literal["weighted_soft_labels"] = "weighted_soft_labels"
    temperature: Annotated[float, Field(gt=0.0)] = 2.0
    """τ: divides both logits in the divergence, not in the weight."""

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """Mean over the labelled positions; without any, a zero that is still connected to the student."""
        if batch.targets is None:
            return student.logits.sum() * 0.0
        return weighted_soft_labels_loss(
            student.logits,
            teacher.logits,
            targets=batch.targets,
            temperature=self.temperature,
            mask=batch.labelled,
            total=batch.labelled_total,
        )
