"""Distillation by regression of the logits."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from torch import Tensor

from understudy.batch import Batch
from understudy.functional.divergences import logit_mse_loss
from understudy.knowledge import Answers, Knowledge
from understudy.objective import Method


@final
class LogitMse(Method):
    r"""The student's logits regress the teacher's.

    .. math:: \frac{1}{N K} \sum_i \| z^S_i - z^T_i \|^2

    Scale: the mean over positions and over the K classes, in the squared unit of the logits; 0 at equality. Ba and
    Caruana (eq. 1) sum over classes and halve, Kim et al. 2021 (arXiv:2105.08919) sum. Not centred, it also
    compares what no probability depends on: a constant on all logits of a position. Centred, half of it is what
    the soft targets become at a high temperature. The gradient goes to the student only.

    Example:
        >>> LogitMse()
        LogitMse(kind='logit_mse', weight=1.0, name=None, centred=False)
    """

    paper: ClassVar[str] = "Ba, Caruana: Do Deep Nets Really Need to be Deep?, NIPS 2014 (arXiv:1312.6184)"
    answers: ClassVar[tuple[Answers, ...]] = ("classes", "numbers", "vectors")
    by_position: ClassVar[bool] = True

    kind: Literal["logit_mse"] = "logit_mse"
    centred: bool = False
    """Whether each position's mean over classes is taken away from both logits first."""

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """Mean squared difference over the positions that count."""
        return logit_mse_loss(
            student.logits, teacher.logits, centred=self.centred, mask=student.mask, total=batch.valid_total
        )
