"""Distillation by softened class probabilities."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from understudy.batch import Batch
from understudy.functional.divergences import soft_target_loss
from understudy.functional.drawn_classes import drawn_target_loss
from understudy.functional.vocabulary import ClosedForm
from understudy.knowledge import Knowledge
from understudy.objective import Method


@final
class SoftTargets(Method):
    r"""The student matches the teacher's class probabilities at a raised temperature.

    .. math:: \tau^2 \, \frac{1}{N} \sum_i \mathrm{KL}(p^T_i \| p^S_i), \quad p = \mathrm{softmax}(z / \tau)

    Scale: summed over classes, averaged over positions, times :math:`\tau^2`; 0 at equality. The paper writes
    the cross-entropy instead of the divergence: the same gradient, shifted by the teacher's entropy. With the
    scores of a query's candidates as logits and τ = 1 this is the list-wise divergence of rankings (Cao et al., ICML
    2007). The gradient goes to the student only.

    Example:
        >>> 0.9 * SoftTargets(temperature=4.0)
        SoftTargets(kind='soft_targets', weight=0.9, name=None, temperature=4.0, rows='all')
    """

    paper: ClassVar[str] = (
        "Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015 (arXiv:1503.02531)"
    )
    by_position: ClassVar[bool] = True

    kind: Literal["soft_targets"] = "soft_targets"
    temperature: Annotated[float, Field(gt=0.0)] = 4.0
    """τ: divides both logits; higher shows more of the small probabilities."""
    rows: Literal["all", "labelled", "unlabelled"] = "all"
    """Which positions the term is about."""

    @property
    def merges_at(self) -> float:
        """The divergence of merged classes is defined too."""
        return self.temperature

    @property
    def learns_from_draws(self) -> bool:
        """At temperature 1, at which they are drawn."""
        return self.temperature == 1.0

    @property
    def closed_form(self) -> ClosedForm | None:
        """With its gradient as a formula."""
        return ClosedForm("kl", self.temperature) if self.rows == "all" else None

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """Mean divergence over the positions that the term is about."""
        mask, total = self._rows(student, batch)
        if teacher.top is not None:
            return drawn_target_loss(student.logits, teacher.logits, drawn=teacher.top.kept, mask=mask, total=total)
        return soft_target_loss(student.logits, teacher.logits, temperature=self.temperature, mask=mask, total=total)

    def _rows(self, student: Knowledge, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        """Which positions the term is about, and how many a whole step has of them."""
        if self.rows == "all":
            return student.mask, batch.valid_total
        labelled, total = _labelled(student, batch), batch.labelled_total
        if self.rows == "labelled":
            return labelled, total
        others = ~labelled if student.mask is None else ~labelled & student.mask
        return others, None if batch.valid_total is None or total is None else batch.valid_total - total


def _labelled(student: Knowledge, batch: Batch) -> Tensor:
    if batch.targets is None:
        return torch.zeros(student.logits.shape[:-1], dtype=torch.bool, device=student.logits.device)
    return batch.supervised
