"""Distillation of intermediate layers."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from torch import Size, Tensor, nn

from understudy.adapters import adapter_for
from understudy.feature_method import FeatureMethod
from understudy.functional.features import hint_loss


@final
class Hint(FeatureMethod):
    r"""A student layer, through a trained adapter, regresses a teacher layer.

    .. math:: \frac{1}{N} \sum_i (r(f^S)_i - f^T_i)^2

    The adapter r is linear, a 1×1 convolution, or a resize, chosen from the two shapes; it trains with the
    student, belongs to the objective, and is not part of the student. Scale: the mean over all elements, in the
    squared unit of the teacher's feature; 0 at equality. The paper sums over elements and halves (eq. 3), guides
    one layer, and trains the hint before the other terms: give the weight a schedule for that. Positions outside
    the mask do not count, as long as the feature has the positions of the logits (samples, tokens); a feature of
    another resolution counts wholly. Over a list of a transformer's layers, or with ``auto`` its evenly spaced blocks,
    it is the hidden-state loss of TinyBERT (Jiao et al. 2020, arXiv:1909.10351), with an adapter for each layer where
    TinyBERT has one for all. The gradient goes to the student and to the adapter.

    Example:
        >>> 50 * Hint(student_layer="layer3", teacher_layer="layer3")
        Hint(kind='hint', weight=50.0, name=None, student_layer='layer3', teacher_layer='layer3')
    """

    paper: ClassVar[str] = "Romero et al.: FitNets: Hints for Thin Deep Nets, ICLR 2015 (arXiv:1412.6550)"

    kind: Literal["hint"] = "hint"

    def adapter(self, student: Size, teacher: Size) -> nn.Module:
        """The regressor."""
        return adapter_for(student, teacher)

    def compare(self, student: Tensor, teacher: Tensor, *, mask: Tensor | None, total: Tensor | None) -> Tensor:
        """Mean squared difference."""
        return hint_loss(student, teacher, mask=mask, total=total)
