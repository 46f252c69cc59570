"""Distillation of the probabilities of neighbours."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from torch import Tensor

from understudy.feature_method import RelationMethod
from understudy.functional.relations import probabilistic_transfer_loss


@final
class ProbabilisticTransfer(RelationMethod):
    r"""For each sample, the others are as likely neighbours for the student as for the teacher (PKT).

    .. math:: \frac{1}{n} \sum_i \sum_{j \ne i} p^T_{j|i} \log \frac{p^T_{j|i}}{p^S_{j|i}}, \quad
        p_{j|i} = \frac{K_{ij}}{\sum_{k \ne i} K_{ik}}, \quad K_{ij} = \tfrac{1}{2} (1 + \cos(x_i, x_j))

    Over the n samples of all processes; as in the paper, no sample is a neighbour of itself. Scale: nats, summed over
    neighbours, averaged over samples; 0 where the distributions are equal, so that fewer than three samples have
    nothing to compare. The paper sums over samples; the authors' code keeps a sample among its neighbours and averages
    over all n² entries, n times less: a weight for it is to be divided by the batch size. The gradient goes to the
    student only.

    Example:
        >>> 100 * ProbabilisticTransfer(student_layer="pool", teacher_layer="pool")
        ProbabilisticTransfer(kind='probabilistic_transfer', weight=100.0, name=None, student_layer='pool',
            teacher_layer='pool')
    """

    paper: ClassVar[str] = (
        "Passalis, Tefas: Learning Deep Representations with Probabilistic Knowledge Transfer, ECCV 2018 "
        "(arXiv:1803.10837)"
    )
    fewest: ClassVar[int] = 3

    kind: Literal["probabilistic_transfer"] = "probabilistic_transfer"

    def relate(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean divergence over the samples."""
        return probabilistic_transfer_loss(student, teacher)
