"""Distillation by the distance of both networks from their mixture."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from understudy.batch import Batch
from understudy.functional.divergences import jensen_shannon_loss
from understudy.functional.vocabulary import ClosedForm
from understudy.knowledge import Knowledge
from understudy.objective import Method


@final
class JensenShannon(Method):
    r"""Student and teacher are both compared with their mixture; a bounded loss between soft targets and reverse KL.

    .. math:: \frac{\tau^2}{N} \sum_i \beta \, \mathrm{KL}(p^T_i \| m_i) + (1 - \beta) \, \mathrm{KL}(p^S_i \| m_i),
        \quad m = \beta p^T + (1 - \beta) p^S

    Scale: summed over classes, averaged over positions, times :math:`\tau^2`; 0 at equality, at most
    :math:`\tau^2 \log 2` for the default :math:`\beta`. It shrinks like :math:`\beta` (towards soft targets) and
    like :math:`1 - \beta` (towards the reverse divergence) at the two ends: raise the weight there. The paper
    has no :math:`\tau^2`, which at the default temperature makes no difference. Training on sequences
    that the student wrote is the paper's other half, and a matter of the batch. The gradient goes to the student
    only.

    Example:
        >>> JensenShannon(beta=0.1)
        JensenShannon(kind='jensen_shannon', weight=1.0, name=None, beta=0.1, temperature=1.0)
    """

    paper: ClassVar[str] = (
        "Agarwal et al.: On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes, "
        "ICLR 2024 (arXiv:2306.13649)"
    )
    by_position: ClassVar[bool] = True

    kind: Literal["jensen_shannon"] = "jensen_shannon"
    beta: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """β: the teacher's share of the mixture; the paper tries 0.1, 0.5 and 0.9."""
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """τ: divides both logits; higher shows more of the small probabilities."""

    @property
    def merges_at(self) -> float:
        """The divergence of merged classes is defined too."""
        return self.temperature

    @property
    def closed_form(self) -> ClosedForm:
        """With its gradient as a formula."""
        return ClosedForm("jensen_shannon", self.temperature, self.beta)

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """Mean divergence over the positions that count."""
        return jensen_shannon_loss(
            student.logits,
            teacher.logits,
            beta=self.beta,
            temperature=self.temperature,
            mask=student.mask,
            total=batch.valid_total,
        )
