"""Distillation of the correlations between samples."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from understudy.feature_method import RelationMethod
from understudy.functional.relations import correlation_congruence_loss


@final
class CorrelationCongruence(RelationMethod):
    r"""The kernel matrix of the student's samples equals that of the teacher's (the relational term of CCKD).

    .. math:: \frac{1}{n^2} \sum_{i,j} (K^S_{ij} - K^T_{ij})^2, \quad
        K_{ij} = e^{-2 \gamma} \sum_{p=0}^{P} \frac{(2 \gamma)^p}{p!} \langle x_i, x_j \rangle^p

    The Gaussian kernel of features of length one, by its Taylor series of order P: the kernel that the paper finds
    best (its bilinear one is ``order=1`` up to a factor). The defaults for γ and P are those of the public
    reimplementations. Scale: the mean over all entries, the n samples of all processes squared; 0 where all cosines
    are equal, at most 4. The paper's other terms are terms of their own here: cross-entropy and soft targets. The
    gradient goes to the student only.

    Example:
        >>> CorrelationCongruence(student_layer="pool", teacher_layer="pool")
        CorrelationCongruence(kind='correlation_congruence', weight=1.0, name=None, student_layer='pool',
            teacher_layer='pool', gamma=0.4, order=2)
    """

    paper: ClassVar[str] = (
        "Peng et al.: Correlation Congruence for Knowledge Distillation, ICCV 2019 (arXiv:1904.01802)"
    )

    kind: Literal["correlation_congruence"] = "correlation_congruence"
    gamma: Annotated[float, Field(gt=0.0)] = 0.4
    """γ: how fast the kernel falls with the distance of two features of length one."""
    order: Annotated[int, Field(ge=1, le=20)] = 2
    """P: the highest power of the cosine in the series."""

    def relate(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean squared difference of the kernels."""
        return correlation_congruence_loss(student, teacher, gamma=self.gamma, order=self.order)
