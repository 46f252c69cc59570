"""Distillation by the divergence of the teacher from the student."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from understudy.batch import Batch
from understudy.functional.divergences import reverse_kl_loss
from understudy.functional.vocabulary import ClosedForm
from understudy.knowledge import Knowledge
from understudy.objective import Method


@final
class ReverseKl(Method):
    r"""The student puts its probability only where the teacher puts some.

    .. math:: \tau^2 \, \frac{1}{N} \sum_i \mathrm{KL}(p^S_i \| p^T_i), \quad p = \mathrm{softmax}(z / \tau)

    Soft targets the other way round: a student too small for all of the teacher's modes keeps to some of them.
    Scale: summed over classes, averaged over positions, times :math:`\tau^2`; 0 at equality. The paper minimises
    it over whole sequences that the student wrote, by policy gradient; this is the divergence of each position on
    the batch's own inputs, whose gradient is exact. It uses no temperature, so that :math:`\tau^2` is this
    library's, as for the soft targets. The gradient goes to the student only.

    Example:
        >>> 0.5 * ReverseKl()
        ReverseKl(kind='reverse_kl', weight=0.5, name=None, temperature=1.0)
    """

    paper: ClassVar[str] = (
        "Gu, Dong, Wei, Huang: MiniLLM: Knowledge Distillation of Large Language Models, ICLR 2024 (arXiv:2306.08543)"
    )
    by_position: ClassVar[bool] = True

    kind: Literal["reverse_kl"] = "reverse_kl"
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """τ: divides both logits; higher shows more of the small probabilities."""

    @property
    def merges_at(self) -> float:
        """The divergence of merged classes is defined too."""
        return self.temperature

    @property
    def closed_form(self) -> ClosedForm:
        """With its gradient as a formula."""
        return ClosedForm("reverse_kl", self.temperature)

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """Mean divergence over the positions that count."""
        return reverse_kl_loss(
            student.logits,
            teacher.logits,
            temperature=self.temperature,
            mask=student.mask,
            total=batch.valid_total,
        )
