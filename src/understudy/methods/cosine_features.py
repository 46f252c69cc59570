"""Distillation of the direction of a feature."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from torch import Size, Tensor, nn

from understudy.adapters import adapter_for
from understudy.feature_method import FeatureMethod
from understudy.functional.features import cosine_feature_loss
from understudy.functional.layout import as_tokens


@final
class CosineFeatures(FeatureMethod):
    r"""The student's feature, through a trained adapter where the shapes differ, points where the teacher's points.

    .. math:: \frac{1}{N} \sum_i 1 - \frac{r(f^S)_i \cdot f^T_i}{\|r(f^S)_i\| \, \|f^T_i\|}

    Of a map each pixel, and of tokens each token, has a direction of its own; they are averaged. Scale: 0 at
    equality and for any two lengths of one direction, 1 at a right angle, at most 2. A vector of zeros has no
    direction: it counts as 1 and gets no gradient. The paper compares the last hidden states of two language
    models, without an adapter since both are equally wide. The gradient goes to the student and to the adapter.

    Example:
        >>> CosineFeatures(student_layer="layer3", teacher_layer="layer3")
        CosineFeatures(kind='cosine_features', weight=1.0, name=None, student_layer='layer3', teacher_layer='layer3')
    """

    paper: ClassVar[str] = (
        "Sanh, Debut, Chaumond, Wolf: DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter, "
        "2019 (arXiv:1910.01108)"
    )
    pairing: ClassVar[Literal["stages", "last", "penultimate"]] = "penultimate"

    kind: Literal["cosine_features"] = "cosine_features"

    def adapter(self, student: Size, teacher: Size) -> nn.Module:
        """A projection and a resize, where needed."""
        return adapter_for(student, teacher)

    def compare(self, student: Tensor, teacher: Tensor, *, mask: Tensor | None, total: Tensor | None) -> Tensor:
        """Mean cosine distance."""
        return cosine_feature_loss(as_tokens(student), as_tokens(teacher), mask=mask, total=total)
