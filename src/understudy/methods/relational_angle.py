"""Distillation of the angles between samples."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from torch import Tensor

from understudy.feature_method import RelationMethod
from understudy.functional.relations import relational_angle_loss


@final
class RelationalAngle(RelationMethod):
    r"""Any three samples of a batch form the same angles for the student as for the teacher (RKD-A).

    .. math:: \frac{1}{|T|} \sum_{(i,j,k) \in T} l_\delta(\cos \angle s_i s_j s_k - \cos \angle t_i t_j t_k)

    T are the triples of distinct samples of all processes, :math:`l_\delta` the Huber loss. Scale: the mean over
    triples, between 0 where all triangles are similar and 1.5. The paper sums over triples; the authors' code averages
    over all n³ entries, which is this times (n - 1) (n - 2) / n². Their weight for classification is 50. Time and
    memory grow with n² times the channels, and with n³. The gradient goes to the student only.

    Example:
        >>> 50 * RelationalAngle()
        RelationalAngle(kind='relational_angle', weight=50.0, name=None, student_layer='auto', teacher_layer='auto')
    """

    paper: ClassVar[str] = "Park et al.: Relational Knowledge Distillation, CVPR 2019 (arXiv:1904.05068)"
    fewest: ClassVar[int] = 3

    kind: Literal["relational_angle"] = "relational_angle"

    def relate(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean Huber loss over the triples."""
        return relational_angle_loss(student, teacher)
