"""Distillation of features where both networks are active."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Size, Tensor, nn

from understudy.adapters import adapter_for
from understudy.feature_method import FeatureMethod, Form
from understudy.functional.attention_masks import masked_feature_loss


@final
class MaskedFeatures(FeatureMethod):
    r"""The student's feature, through an adapter, meets the teacher's above all where both are active.

    .. math:: \frac{1}{N} \sum_i \Big(\sum_{c, h, w} M_{ic} M_{ihw} (s_{ichw} - t_{ichw})^2\Big)^{1/2}
        + \lambda \Big(\|a(s_i) - a(t_i)\|_2 + \|b(s_i) - b(t_i)\|_2\Big)

    a is the mean of the absolute values over channels, one for each pixel, and b that over pixels, one for each
    channel; :math:`M_{ihw}` is H · W times the softmax of :math:`(a(s_i) + a(t_i)) / \tau` over pixels,
    :math:`M_{ic}` is C times that of b over channels, and both are constants of the loss. The adapter is a 1×1
    convolution and a resize where the shapes differ, and the activities are those after it. These are the paper's
    masked distance and its attention transfer; its third part, non-local relations, is not included. The authors' code
    instead averages the two networks' softmaxes, takes the norm of the whole batch, and fits the activities, without
    absolute values, through layers of their own.

    Scale: norms over a sample, the mean over samples, summed over layers; 0 at equality, in the unit of the teacher's
    feature and growing with the square root of its size. The authors multiply the features' part by 0.00007 and the
    attention's by 0.004 in two-stage detectors (τ = 0.1), by six times as much in one-stage ones (τ = 0.5). The
    gradient goes to the student, and to the adapter.

    Example:
        >>> 7e-5 * MaskedFeatures(temperature=0.5, attention=0.0)  # doctest: +ELLIPSIS
        MaskedFeatures(kind='masked_features', weight=7e-05, ..., temperature=0.5, attention=0.0)
    """

    paper: ClassVar[str] = (
        "Zhang, Ma: Improve Object Detection with Feature-based Knowledge Distillation: Towards Accurate and Efficient "
        "Detectors, ICLR 2021"
    )
    form: ClassVar[Form] = "map"

    kind: Literal["masked_features"] = "masked_features"
    temperature: Annotated[float, Field(gt=0.0)] = 0.1
    """τ: the lower, the more only the most active pixels and channels count."""
    attention: Annotated[float, Field(ge=0.0)] = 4e-3 / 7e-5
    """λ: weight of the distance between the activities themselves; the ratio of the authors' two weights."""

    def adapter(self, student: Size, teacher: Size) -> nn.Module:
        """A convolution and a resize where the shapes differ."""
        return adapter_for(student, teacher)

    def compare(self, student: Tensor, teacher: Tensor, *, mask: Tensor | None, total: Tensor | None) -> Tensor:
        """The masked distance, and that of the activities."""
        return masked_feature_loss(
            student, teacher, temperature=self.temperature, attention=self.attention, mask=mask, total=total
        )
