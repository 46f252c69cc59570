"""Distillation of where a network looks."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from understudy.feature_method import FeatureMethod, Form
from understudy.functional.features import attention_transfer_loss


@final
class AttentionTransfer(FeatureMethod):
    r"""The student's layers are active at the pixels where the teacher's are; how many channels each has is its own.

    .. math:: \frac{1}{N H W} \sum_i \left\| \frac{Q^S_i}{\|Q^S_i\|_2} - \frac{Q^T_i}{\|Q^T_i\|_2} \right\|_2^2,
        \quad Q = \mathrm{vec} \sum_c |F_c|^p

    Scale: the mean over pixels, summed over the pairs of layers; 0 at equality, at most 2 / (H W) for each pair, so
    that a usual weight is a thousand. The paper writes the norm of the difference; its authors' code the mean of
    squares, which everybody follows, and so does this. Where the sizes differ, the larger of the two maps Q is
    averaged down to the smaller; some toolkits average the feature instead. No parameters of its own. The gradient
    goes to the student only.

    Example:
        >>> 1000 * AttentionTransfer(student_layer="layer3", teacher_layer="layer3")  # doctest: +ELLIPSIS
        AttentionTransfer(kind='attention_transfer', weight=1000.0, ..., power=2.0)
    """

    paper: ClassVar[str] = "Zagoruyko, Komodakis: Paying More Attention to Attention, ICLR 2017 (arXiv:1612.03928)"
    form: ClassVar[Form] = "map"

    kind: Literal["attention_transfer"] = "attention_transfer"
    power: Annotated[float, Field(ge=1.0)] = 2.0
    """p: the higher, the more the strongest activations of a pixel count."""

    def compare(self, student: Tensor, teacher: Tensor, *, mask: Tensor | None, total: Tensor | None) -> Tensor:
        """Mean squared difference of the maps of attention."""
        return attention_transfer_loss(student, teacher, power=self.power, mask=mask, total=total)
