"""Distillation of the similarities between samples."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from torch import Tensor

from understudy.feature_method import Form, RelationMethod
from understudy.functional.relations import similarity_preserving_loss


@final
class SimilarityPreserving(RelationMethod):
    r"""Samples that activate the teacher alike activate the student alike.

    .. math:: \frac{1}{b^2} \| G^T - G^S \|_F^2, \quad G_{i:} = \tilde G_{i:} / \| \tilde G_{i:} \|_2, \quad
        \tilde G = Q Q^\top

    Q is the layer's feature with one flat row for each of the b samples of all processes; the two may differ in
    shape. Scale: the mean over the entries of the b × b matrices, 0 where the similarities are proportional, at most
    4 / b. The paper's own scale; its weight is in the thousands (3000). ``auto`` is the last stage. The
    gradient goes to the student only.

    Example:
        >>> 3000 * SimilarityPreserving(student_layer="layer4", teacher_layer="layer4")
        SimilarityPreserving(kind='similarity_preserving', weight=3000.0, name=None, student_layer='layer4',
            teacher_layer='layer4')
    """

    paper: ClassVar[str] = "Tung, Mori: Similarity-Preserving Knowledge Distillation, ICCV 2019 (arXiv:1907.09682)"
    pairing: ClassVar[Literal["stages", "last", "penultimate"]] = "last"
    form: ClassVar[Form] = "any"

    kind: Literal["similarity_preserving"] = "similarity_preserving"

    def relate(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean squared difference of the similarities."""
        return similarity_preserving_loss(student, teacher)
