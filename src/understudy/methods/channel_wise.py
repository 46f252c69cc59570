"""Distillation of where each channel is active."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Size, Tensor, nn

from understudy.adapters import adapter_for
from understudy.feature_method import FeatureMethod, Form
from understudy.functional.features import channel_wise_loss


@final
class ChannelWise(FeatureMethod):
    r"""Each channel, as a distribution over the pixels, matches the same channel of the teacher.

    .. math:: \frac{\tau^2}{N C} \sum_{i, c} \mathrm{KL}(p^T_{ic} \| p^S_{ic}),
        \quad p_{ic} = \mathrm{softmax}_{\mathrm{pixels}}(F_{ic} / \tau)

    Where the numbers of channels or the sizes differ, a 1×1 convolution and a resize bring the student's feature to
    the teacher's shape first. Scale: summed over pixels, averaged over channels and samples, times :math:`\tau^2`; 0
    at equality. The paper weighs features by 50 and the maps of logits before the last softmax by 3. A feature of
    one pixel (a vector) has nothing to distribute and gives 0. The gradient goes to the student and to the adapter.

    Example:
        >>> 50 * ChannelWise(student_layer="layer4", teacher_layer="layer4")  # doctest: +ELLIPSIS
        ChannelWise(kind='channel_wise', weight=50.0, ..., temperature=4.0)
    """

    paper: ClassVar[str] = (
        "Shu, Liu, Gao, Yan, Shen: Channel-wise Knowledge Distillation for Dense Prediction, ICCV 2021 "
        "(arXiv:2011.13256)"
    )
    pairing: ClassVar[Literal["stages", "last", "penultimate"]] = "last"
    form: ClassVar[Form] = "map"

    kind: Literal["channel_wise"] = "channel_wise"
    temperature: Annotated[float, Field(gt=0.0)] = 4.0
    """τ: divides both features; the higher, the more of a channel's pixels count."""

    def adapter(self, student: Size, teacher: Size) -> nn.Module:
        """A projection and a resize, where needed."""
        return adapter_for(student, teacher)

    def compare(self, student: Tensor, teacher: Tensor, *, mask: Tensor | None, total: Tensor | None) -> Tensor:
        """Mean divergence over the channels."""
        return channel_wise_loss(student, teacher, temperature=self.temperature, mask=mask, total=total)
