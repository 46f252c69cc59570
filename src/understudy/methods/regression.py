"""Distillation of predicted numbers."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field, model_validator
from torch import Tensor

from understudy.batch import Batch
from understudy.functional.regression import regression_loss
from understudy.knowledge import Answers, Knowledge
from understudy.objective import Method


@final
class Regression(Method):
    r"""The numbers that the student predicts are the teacher's: for networks whose outputs are no scores of classes.

    .. math:: \frac{1}{N K} \sum_i \sum_k \mathrm{norm}(r^S_{ik} - r^T_{ik}), \quad
        \mathrm{huber}(d) = \begin{cases} d^2 / 2 & |d| \le \delta \\ \delta (|d| - \delta / 2) & |d| > \delta
        \end{cases}

    The teacher's prediction stands in for the true value, so that samples without one count too. Scale: the mean over
    positions and over the K outputs, in the outputs' unit (``l1``) or its square; 0 at equality. The paper weighs the
    teacher's part, with the squared norm, against the part of the true values, sample by sample by how wrong the
    teacher is; this is that part without weights. The ``huber`` norm keeps an answer that is far off from ruling the
    step. The gradient goes to the student only.

    Example:
        >>> Regression(norm="l1")
        Regression(kind='regression', weight=1.0, name=None, norm='l1', delta=1.0)
    """

    paper: ClassVar[str] = (
        "Saputra et al.: Distilling Knowledge From a Deep Pose Regressor Network, ICCV 2019 (arXiv:1908.00858)"
    )
    answers: ClassVar[tuple[Answers, ...]] = ("classes", "numbers", "vectors")

    kind: Literal["regression"] = "regression"
    norm: Literal["huber", "l1", "l2"] = "huber"
    """How a difference is measured: its absolute value, its square, or half its square up to ``delta``."""
    delta: Annotated[float, Field(gt=0.0)] = 1.0
    """δ: the difference from which on the Huber norm grows linearly, in the outputs' unit; of ``huber`` only."""

    @model_validator(mode="after")
    def _delta_is_of_huber(self) -> Regression:
        if self.norm != "huber" and self.delta != 1.0:
            raise ValueError(f"delta ({self.delta}) is about norm 'huber', got norm {self.norm!r}; leave delta out")
        return self

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """Mean over the positions that count, labelled or not."""
        return regression_loss(
            student.logits,
            teacher.logits,
            norm=self.norm,
            delta=self.delta,
            mask=student.mask,
            total=batch.valid_total,
        )
