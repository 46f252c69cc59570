"""Supervision by true numbers."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from torch import Tensor

from understudy.batch import Batch
from understudy.functional.regression import regression_loss
from understudy.knowledge import Answers, Knowledge
from understudy.objective import Method


@final
class SquaredError(Method):
    r"""Mean squared error of the predicted numbers, over the samples whose true numbers are known.

    .. math:: \frac{1}{|L| K} \sum_{i \in L} \sum_k (r^S_{ik} - y_{ik})^2

    Scale: the mean over samples and over the K numbers, in the square of their unit, of which all should have about the
    same size; the variance of the true numbers for a student that always answers their mean, 0 at best. A batch
    without any known number gives a zero that is still connected to the student. The gradient goes to the student.

    Example:
        >>> 0.5 * SquaredError()
        SquaredError(kind='squared_error', weight=0.5, name=None)
    """

    paper: ClassVar[str] = (
        "Hastie, Tibshirani, Friedman: The Elements of Statistical Learning, Springer 2009, section 2.4 (squared error)"
    )
    needs_teacher: ClassVar[bool] = False
    needs_one_label: ClassVar[bool] = True
    answers: ClassVar[tuple[Answers, ...]] = ("numbers",)

    kind: Literal["squared_error"] = "squared_error"

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:  # noqa: ARG002 - no teacher
        """Mean squared error over the labelled positions."""
        if batch.targets is None:
            return student.logits.sum() * 0.0
        return regression_loss(
            student.logits,
            batch.targets.nan_to_num(0.0).to(student.logits.dtype),  # NaN times 0 would be NaN in the gradient
            norm="l2",
            mask=batch.labelled,
            total=batch.labelled_total,
        )
