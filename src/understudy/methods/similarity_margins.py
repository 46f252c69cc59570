"""Distillation of the margins between cosines of embeddings."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from torch import Tensor

from understudy.feature_method import RelationMethod
from understudy.functional.relations import similarity_margin_loss


@final
class SimilarityMargins(RelationMethod):
    r"""By how much one sample is nearer than another to a third is the same for the student as for the teacher.

    .. math:: \frac{1}{|T|} \sum_{(i,j,k) \in T} \big((\cos(s_i, s_j) - \cos(s_i, s_k)) -
        (\cos(t_i, t_j) - \cos(t_i, t_k))\big)^2

    T are the triples of distinct samples among the n of all processes: each in turn is the query, all others are its
    passages. The paper has one relevant and one irrelevant passage for each query and scores them by inner products;
    cosines are those of normalised embeddings. In contrast to ``embedding_similarity`` the teacher's cosines may all be
    larger than the student's by a constant, as long as the order and the distances stay. The two may differ in width.
    Scale: 0 where all margins are equal, and always for fewer than three samples; at most 16. The gradient goes to
    the student only.

    Example:
        >>> SimilarityMargins(student_layer=":output", teacher_layer=":output")
        SimilarityMargins(kind='similarity_margins', weight=1.0, name=None, student_layer=':output',
            teacher_layer=':output')
    """

    paper: ClassVar[str] = (
        "Hofstätter, Althammer, Schröder, Sertkan, Hanbury: Improving Efficient Neural Ranking Models with "
        "Cross-Architecture Knowledge Distillation, 2020 (arXiv:2010.02666)"
    )
    fewest: ClassVar[int] = 3

    kind: Literal["similarity_margins"] = "similarity_margins"

    def relate(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean squared difference of the margins."""
        return similarity_margin_loss(student, teacher)
