"""Distillation of the distances between samples."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from torch import Tensor

from understudy.feature_method import RelationMethod
from understudy.functional.relations import relational_distance_loss


@final
class RelationalDistance(RelationMethod):
    r"""The samples of a batch lie as far apart for the student as for the teacher (RKD-D).

    .. math:: \frac{1}{|P|} \sum_{(i,j) \in P} l_\delta\!\left(\frac{\|s_i - s_j\|}{\mu^S} -
        \frac{\|t_i - t_j\|}{\mu^T}\right)

    P are the pairs of distinct samples of all processes, :math:`\mu` the mean distance over P, :math:`l_\delta` the
    Huber loss. Scale: the mean over pairs, without unit; 0 where the distances are proportional, so that fewer than
    three samples have nothing to compare. The paper sums over pairs; the authors' code averages over all n² entries,
    which is this times (n - 1) / n. Their weight for classification is 25. The gradient goes to the student only.

    Example:
        >>> 25 * RelationalDistance()
        RelationalDistance(kind='relational_distance', weight=25.0, name=None, student_layer='auto',
            teacher_layer='auto')
    """

    paper: ClassVar[str] = "Park et al.: Relational Knowledge Distillation, CVPR 2019 (arXiv:1904.05068)"
    fewest: ClassVar[int] = 3

    kind: Literal["relational_distance"] = "relational_distance"

    def relate(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean Huber loss over the pairs."""
        return relational_distance_loss(student, teacher)
