"""Distillation of how each channel varies over pixels and samples."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from torch import Size, Tensor, nn

from understudy.adapters import adapter_for
from understudy.feature_method import Form, RelationMethod
from understudy.functional.feature_maps import pearson_channel_loss


@final
class PearsonChannels(RelationMethod):
    r"""Each channel correlates with the same channel of the teacher, over all pixels of all samples.

    .. math:: \frac{1}{2 C M} \sum_{c, m} (\hat s_{cm} - \hat t_{cm})^2 = 1 - \frac{1}{C} \sum_c r(s_c, t_c)

    with channels standardised over the M values that each has in the batch, so that the samples of a batch, on all
    processes, are coupled. Scale: 0 at equality, and for a channel that differs by a positive factor or a constant;
    1 without correlation, at most 2. The standard deviation is the population's, which makes both sides equal; with
    the authors' (divided by M − 1) the loss is (M − 1)/M of this one. Where the numbers of channels or the sizes
    differ, a 1×1 convolution and a resize bring the student's feature to the teacher's shape. The gradient goes to
    the student and to the adapter.

    Example:
        >>> PearsonChannels(student_layer="layer4", teacher_layer="layer4")  # doctest: +ELLIPSIS
        PearsonChannels(kind='pearson_channels', weight=1.0, ...)
    """

    paper: ClassVar[str] = (
        "Cao, Zhang, Gao, Cheng, Cheng, Cheng: PKD: General Distillation Framework for Object Detectors via Pearson "
        "Correlation Coefficient, NeurIPS 2022 (arXiv:2207.02039)"
    )
    pairing: ClassVar[Literal["stages", "last", "penultimate"]] = "stages"
    form: ClassVar[Form] = "map"
    fewest: ClassVar[int] = 1
    """The pixels of one sample vary too."""

    kind: Literal["pearson_channels"] = "pearson_channels"

    def relation(self, student: Size, teacher: Size) -> nn.Module:
        """The correlation after an adapter, where one is needed."""
        return Correlation(adapter_for(student, teacher))


class Correlation(nn.Module):
    """One minus the mean correlation of the channels, after an adapter."""

    def __init__(self, adapter: nn.Module) -> None:
        super().__init__()
        self.adapter = adapter

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of rows that all count."""
        return pearson_channel_loss(self.adapter(student), teacher)
