"""Distillation by correlated class probabilities."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from understudy.batch import Batch
from understudy.functional.correlations import dist_loss
from understudy.functional.reduction import connected_zero
from understudy.gathering import together
from understudy.knowledge import Knowledge
from understudy.objective import Method


@final
class Dist(Method):
    r"""The student's probabilities correlate with the teacher's: classes within a sample, samples within a class.

    .. math:: \tau^2 \Big( \frac{\beta}{B} \sum_i (1 - \rho(p^S_{i:}, p^T_{i:})) +
        \frac{\gamma}{K} \sum_k (1 - \rho(p^S_{:k}, p^T_{:k})) \Big), \quad p = \mathrm{softmax}(z / \tau)

    :math:`\rho` is Pearson's correlation, B the positions that count in all processes, K the classes. Scale: between
    0 where the probabilities are linear in each other, as at equality, and :math:`2 \tau^2 (\beta + \gamma)`; a class
    with the same probability in all of the batch counts as uncorrelated. Fewer than two positions give 0. The factor
    :math:`\tau^2` is the authors' code's, not the paper's; the code averages over the samples of one process, where
    this term sees those of all. The gradient goes to the student only.

    Example:
        >>> 2 * Dist()
        Dist(kind='dist', weight=2.0, name=None, temperature=1.0, beta=1.0, gamma=1.0)
    """

    paper: ClassVar[str] = (
        "Huang et al.: Knowledge Distillation from A Stronger Teacher, NeurIPS 2022 (arXiv:2205.10536)"
    )
    batch_coupled: ClassVar[bool] = True
    among_classes: ClassVar[bool] = True

    kind: Literal["dist"] = "dist"
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """τ: divides both logits; the authors take 1 for ImageNet and 4 for CIFAR-100."""
    beta: Annotated[float, Field(ge=0.0)] = 1.0
    """β: weight of the relation between the classes of a sample."""
    gamma: Annotated[float, Field(ge=0.0)] = 1.0
    """γ: weight of the relation between the samples of a class."""

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """Mean distance from full correlation, over samples and over classes."""
        mask = student.mask.flatten() if student.mask is not None else None
        own, answer = student.logits.flatten(0, -2), teacher.logits.detach().flatten(0, -2)
        rows, answers, share = together(own, answer, mask=mask, total=batch.valid_total)
        if len(rows) < 2:
            return connected_zero(own)
        value = dist_loss(rows, answers, temperature=self.temperature, beta=self.beta, gamma=self.gamma)
        return share * value
