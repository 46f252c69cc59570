"""Distillation of predictions, of the similarity of samples, and of the similarity of classes."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from understudy.batch import Batch
from understudy.functional.multilevel import multilevel_logit_loss
from understudy.functional.reduction import connected_zero
from understudy.gathering import together
from understudy.knowledge import Knowledge
from understudy.objective import Method


@final
class MultilevelLogits(Method):
    r"""The student agrees with the teacher on samples, between samples, and between classes.

    .. math:: \sum_\tau \Big( w_I \frac{\tau^2}{B} \sum_i \mathrm{KL}(p^T_i \| p^S_i)
        + \frac{w_B}{B} \| P_T P_T^\top - P_S P_S^\top \|_F^2
        + \frac{w_C}{K} \| P_T^\top P_T - P_S^\top P_S \|_F^2 \Big), \quad P = \mathrm{softmax}(Z / \tau)

    B are the positions that count in all processes, K the classes. Scale: 0 at equality; a sum over the
    temperatures; the divergence is a mean over samples, but the sums of squares grow with the batch, the last one
    with its square: a weight tuned for one batch size does not carry over. The three levels, their divisors and the
    five temperatures are the authors' code's. Its confidence thresholds are left out: they are medians, and multiply
    a value that is already averaged, so that they only halve it. So is the strongly augmented second view of each
    image on which it compares both networks again, as the data belongs to the task. The gradient goes to the student
    only.

    Example:
        >>> MultilevelLogits().temperatures
        (2.0, 3.0, 4.0, 5.0, 6.0)
    """

    paper: ClassVar[str] = "Jin, Wang, Lin: Multi-Level Logit Distillation, CVPR 2023"
    batch_coupled: ClassVar[bool] = True
    among_classes: ClassVar[bool] = True

    kind: Literal["multilevel_logits"] = "multilevel_logits"
    temperatures: Annotated[tuple[Annotated[float, Field(gt=0.0)], ...], Field(min_length=1)] = (
        2.0,
        3.0,
        4.0,
        5.0,
        6.0,
    )
    """τ: each divides both logits; the loss is the sum over them."""
    instance_level: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of the divergence of single predictions."""
    batch_level: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of the similarity of samples."""
    class_level: Annotated[float, Field(ge=0.0)] = 1.0
    """Weight of the similarity of classes."""

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """The three levels over the positions that count, of all processes; 0 when there are none."""
        mask = student.mask.flatten() if student.mask is not None else None
        own, answer = student.logits.flatten(0, -2), teacher.logits.detach().flatten(0, -2)
        rows, answers, share = together(own, answer, mask=mask, total=batch.valid_total)
        if len(rows) == 0:
            return connected_zero(own)
        return share * multilevel_logit_loss(
            rows,
            answers,
            temperatures=self.temperatures,
            instance_level=self.instance_level,
            batch_level=self.batch_level,
            class_level=self.class_level,
        )
