"""Distillation of the cosines between embeddings."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from torch import Tensor

from understudy.feature_method import RelationMethod
from understudy.functional.relations import embedding_similarity_loss


@final
class EmbeddingSimilarity(RelationMethod):
    r"""Any two samples have the same cosine for the student as for the teacher.

    .. math:: \frac{1}{n (n - 1)} \sum_{i \ne j} (\cos(s_i, s_j) - \cos(t_i, t_j))^2

    For embeddings that are compared by their cosine, as of sentences; the two may differ in width. Over the distinct
    pairs of the n samples of all processes. Scale: 0 where all cosines are equal, at most 4. The paper averages over
    the diagonal too, which is always 0: that is this times (n - 1) / n. The gradient goes to the student only.

    Example:
        >>> EmbeddingSimilarity(student_layer="pool", teacher_layer="pool")
        EmbeddingSimilarity(kind='embedding_similarity', weight=1.0, name=None, student_layer='pool',
            teacher_layer='pool')
    """

    paper: ClassVar[str] = (
        "Zhang et al.: Jasper and Stella: distillation of SOTA embedding models, 2024 (arXiv:2412.19048)"
    )

    kind: Literal["embedding_similarity"] = "embedding_similarity"

    def relate(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean squared difference of the cosines."""
        return embedding_similarity_loss(student, teacher)
