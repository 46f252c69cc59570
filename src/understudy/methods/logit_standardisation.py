"""Distillation of logits of one scale."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from understudy.batch import Batch
from understudy.functional.decoupling import logit_standardisation_loss
from understudy.knowledge import Knowledge
from understudy.objective import Method


@final
class LogitStandardisation(Method):
    r"""Soft targets of logits with mean 0 and deviation 1: the order and the gaps count, not how sure one is.

    .. math:: \tau^2 \, \frac{1}{N} \sum_i \mathrm{KL}(p^T_i \| p^S_i), \quad
        p = \mathrm{softmax}\left(\frac{z - \bar z}{\tau \, \sigma(z)}\right)

    Scale: summed over classes, averaged over positions, times :math:`\tau^2`; 0 at equality, and for a student
    whose logits are the teacher's times a positive factor plus a constant. How sure the student is has to come
    from a supervised term. A deviation of zero gets 1e-7 added, as in the authors' code, which is finite, but a
    huge gradient: no student with a head of zeros. The deviation divides by K, as in the paper; the authors' code
    divides by K - 1, which is :math:`\sqrt{K / (K - 1)}` times this temperature. They mostly use a weight of 9. The
    gradient goes to the student only.

    Example:
        >>> 9 * LogitStandardisation()
        LogitStandardisation(kind='logit_standardisation', weight=9.0, name=None, temperature=2.0)
    """

    paper: ClassVar[str] = (
        "Sun, Ren, Li, Wang, Cao: Logit Standardization in Knowledge Distillation, CVPR 2024 (arXiv:2403.01427)"
    )
    among_classes: ClassVar[bool] = True
    by_position: ClassVar[bool] = True

    kind: Literal["logit_standardisation"] = "logit_standardisation"
    temperature: Annotated[float, Field(gt=0.0)] = 2.0
    """τ: the base temperature, divides the standardised logits."""

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """Mean divergence over the positions that count."""
        return logit_standardisation_loss(
            student.logits,
            teacher.logits,
            temperature=self.temperature,
            mask=student.mask,
            total=batch.valid_total,
        )
