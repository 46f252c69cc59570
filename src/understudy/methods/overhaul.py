"""Distillation of the feature before its activation function, where it tells something."""

from __future__ import annotations

from typing import ClassVar, Literal, final

import torch
from torch import Size, Tensor, nn

from understudy.adapters import adapter_for
from understudy.feature_method import FeatureMethod, Form
from understudy.functional.feature_maps import overhaul_loss
from understudy.functional.geometry import precise
from understudy.gathering import gathered


@final
class Overhaul(FeatureMethod):
    r"""The student regresses the teacher's feature; where that is negative, it only has to be low enough.

    .. math:: \frac{1}{N} \sum_i \sum_j d_p\big(r(f^S)_{ij}, \max(f^T_{ij}, m_{c(j)})\big),
        \quad d_p(s, u) = \begin{cases} 0 & s \le u \le 0 \\ (s - u)^2 & \text{otherwise} \end{cases}

    The margin :math:`m_c` is what the negative values of the teacher's channel c are on average. The paper derives it
    once from the scale and shift of the teacher's batch normalisation, as the mean of the negative half of a
    Gaussian. A layer does not tell which batch normalisation came before it, so here it is the mean of the negative
    values in the batch: all pixels of all samples that count, on all processes. It varies from step to step, and
    couples the samples of a batch. Where a channel has no negative value m is 0; the authors then take three standard
    deviations. Name layers that end before their activation function: behind a teacher's ReLU the margins are 0, and
    where the teacher is 0 anything not positive will do. Where the numbers of channels or the sizes differ, r is a
    1×1 convolution and a resize; the authors always have one, with a batch normalisation.

    Scale: summed over the channels and pixels, averaged over the samples, as in the authors' code, so that weights
    are small (theirs is 0.001 on CIFAR and 0.0001 on ImageNet for the last layer, half of the following one's for
    each before); 0 at equality, and wherever the student is below a target that is not positive. The gradient goes to
    the student and to the adapter.

    Example:
        >>> 0.001 * Overhaul(student_layer="bn3", teacher_layer="bn3")  # doctest: +ELLIPSIS
        Overhaul(kind='overhaul', weight=0.001, ...)
    """

    paper: ClassVar[str] = (
        "Heo, Kim, Yun, Park, Kwak, Choi: A Comprehensive Overhaul of Feature Distillation, ICCV 2019 "
        "(arXiv:1904.01866)"
    )
    batch_coupled: ClassVar[bool] = True
    form: ClassVar[Form] = "map"

    kind: Literal["overhaul"] = "overhaul"

    def join(self, student: Size, teacher: Size) -> nn.Module:
        """The partial distance after an adapter, where one is needed.

        Raises:
            InputError: when the two shapes do not fit.
        """
        return PartialDistance(adapter_for(student, teacher))


class PartialDistance(nn.Module):
    """The partial distance from the teacher's feature, with margins from the batch, after an adapter."""

    def __init__(self, adapter: nn.Module) -> None:
        super().__init__()
        self.adapter = adapter

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor | None, total: Tensor | None) -> Tensor:
        """The loss of one pair of layers."""
        answer = teacher.detach()
        return overhaul_loss(
            self.adapter(student), answer, margin=_negative_means(answer, mask), mask=mask, total=total
        )


def _negative_means(feature: Tensor, mask: Tensor | None) -> Tensor:
    """For each channel the mean of its negative values in the rows that count, on all processes; 0 without any."""
    values = precise(feature)
    if mask is not None:
        values = torch.where(mask[:, None, None, None], values, 0.0)
    of_channels = (0, 2, 3)
    here = torch.stack([values.clamp_max(0.0).sum(of_channels), (values < 0).sum(of_channels).to(values.dtype)])
    sums, counts = gathered(here[None]).sum(0)
    return sums / counts.clamp_min(1.0)
