"""Distillation by the divergence of the teacher from a mixture of both networks."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from understudy.batch import Batch
from understudy.functional.divergences import skew_kl_loss
from understudy.functional.vocabulary import ClosedForm
from understudy.knowledge import Knowledge
from understudy.objective import Method


@final
class SkewKl(Method):
    r"""The student is compared with the teacher through a mixture of both; soft targets that are bounded.

    .. math:: \frac{\tau^2}{N} \sum_i \mathrm{KL}(p^T_i \| m_i), \quad m = \beta p^T + (1 - \beta) p^S

    For language models, whose students find many a word all but impossible that their teachers find likely: there
    soft targets grow without bound. Scale: summed over classes, averaged over positions, times :math:`\tau^2`; 0
    at equality, at most :math:`-\tau^2 \log \beta`. It tends to soft targets for :math:`\beta \to 0`, and shrinks
    like :math:`(1 - \beta)^2` towards 1. The paper calls :math:`\beta` :math:`\alpha`, and has no :math:`\tau^2`,
    which at the default temperature makes no difference. The gradient goes to the student only.

    Example:
        >>> SkewKl()
        SkewKl(kind='skew_kl', weight=1.0, name=None, beta=0.1, temperature=1.0)
    """

    paper: ClassVar[str] = (
        "Ko, Kim, Chen, Yun: DistiLLM: Towards Streamlined Distillation for Large Language Models, "
        "ICML 2024 (arXiv:2402.03898)"
    )
    by_position: ClassVar[bool] = True

    kind: Literal["skew_kl"] = "skew_kl"
    beta: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """β: the teacher's share of the mixture; the paper's α."""
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """τ: divides both logits; higher shows more of the small probabilities."""

    @property
    def merges_at(self) -> float:
        """The divergence of merged classes is defined too."""
        return self.temperature

    @property
    def closed_form(self) -> ClosedForm:
        """With its gradient as a formula."""
        return ClosedForm("skew_kl", self.temperature, self.beta)

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """Mean divergence over the positions that count."""
        return skew_kl_loss(
            student.logits,
            teacher.logits,
            beta=self.beta,
            temperature=self.temperature,
            mask=student.mask,
            total=batch.valid_total,
        )
