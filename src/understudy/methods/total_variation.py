"""Distillation by the total variation distance."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from torch import Tensor

from understudy.batch import Batch
from understudy.functional.divergences import total_variation_loss
from understudy.functional.vocabulary import ClosedForm
from understudy.knowledge import Knowledge
from understudy.objective import Method


@final
class TotalVariation(Method):
    r"""The probability that student and teacher put on different classes shrinks.

    .. math:: \frac{1}{N} \sum_i \frac{1}{2} \sum_k |p^S_{ik} - p^T_{ik}|, \quad p = \mathrm{softmax}(z)

    Symmetric and bounded: one position that the student gets quite wrong cannot outweigh the rest. Scale: summed
    over classes and halved, averaged over positions; 0 at equality, at most 1. A student that is sure of a wrong
    class gets hardly any gradient, since its softmax is saturated: it wants a supervised term beside it. The paper
    compares the sum over the tokens of sentences that both networks wrote; this is one position of the batch. The
    gradient goes to the student only.

    Example:
        >>> TotalVariation()
        TotalVariation(kind='total_variation', weight=1.0, name=None)
    """

    paper: ClassVar[str] = (
        "Wen, Li, Du, Mou: f-Divergence Minimization for Sequence-Level Knowledge Distillation, ACL 2023 "
        "(arXiv:2307.15190)"
    )
    by_position: ClassVar[bool] = True

    kind: Literal["total_variation"] = "total_variation"

    @property
    def merges_at(self) -> float:
        """The divergence of merged classes is defined too."""
        return 1.0

    @property
    def closed_form(self) -> ClosedForm:
        """With its gradient as a formula."""
        return ClosedForm("total_variation")

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """Mean distance over the positions that count."""
        return total_variation_loss(student.logits, teacher.logits, mask=student.mask, total=batch.valid_total)
