"""Distillation by a lower bound on the information that student and teacher share."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Size, Tensor, nn

from understudy.adapters import adapter_for
from understudy.feature_method import FeatureMethod
from understudy.functional.feature_maps import variational_loss
from understudy.functional.geometry import precise
from understudy.functional.layout import as_tokens

_LEAST_VARIANCE = 1e-5


@final
class Variational(FeatureMethod):
    r"""From the student's feature a small network predicts the teacher's, each channel with a variance of its own.

    .. math:: \frac{1}{2 N} \sum_i \frac{(t_i - \mu(s)_i)^2}{\sigma_{c(i)}^2} + \log \sigma_{c(i)}^2,
        \quad \sigma_c^2 = \mathrm{softplus}(\alpha_c) + \epsilon

    What is minimised is an upper bound on the teacher's entropy given the student. The network μ has three layers
    without bias (1×1 convolutions, or linear ones on tokens and vectors) with ReLUs between them; it and α train with
    the student and belong to the objective. Scale: the mean over all elements, as in the code that the authors gave
    to RepDistiller; the paper sums. The loss may be negative: where the prediction equals the teacher's feature it is
    :math:`\frac{1}{2} \log \sigma^2`, which is 0 for a variance of 1 and has its least value, about −5.8, at ε. The
    gradient goes to the student, to μ and to α.

    Example:
        >>> Variational(student_layer="layer3", teacher_layer="layer3")  # doctest: +ELLIPSIS
        Variational(kind='variational', weight=1.0, ..., variance=5.0)
    """

    paper: ClassVar[str] = (
        "Ahn, Hu, Damianou, Lawrence, Dai: Variational Information Distillation for Knowledge Transfer, CVPR 2019 "
        "(arXiv:1904.05835)"
    )

    kind: Literal["variational"] = "variational"
    variance: Annotated[float, Field(gt=_LEAST_VARIANCE)] = 5.0
    """σ² of every channel at the start."""

    def join(self, student: Size, teacher: Size) -> nn.Module:
        """A prediction of the teacher's feature, and how sure it is.

        Raises:
            InputError: when one feature has pixels or tokens and the other has not.
        """
        return Prediction(_mean_network(student, teacher), _channels(teacher), self.variance)


class Prediction(nn.Module):
    """A mean network, and a variance for each channel.

    Args:
        mean: the network.
        channels: how many the teacher's feature has.
        variance: of each at the start.
    """

    def __init__(self, mean: nn.Module, channels: int, variance: float) -> None:
        super().__init__()
        self.mean = mean
        above = variance - _LEAST_VARIANCE
        self.alpha = nn.Parameter(torch.full((channels,), above + math.log(-math.expm1(-above))))

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor | None, total: Tensor | None) -> Tensor:
        """The loss of one pair of layers."""
        alpha = precise(self.alpha)
        variance = F.softplus(alpha) + _LEAST_VARIANCE
        mean = as_tokens(self.mean(student))
        return variational_loss(mean, as_tokens(teacher.detach()), variance=variance, mask=mask, total=total)


def _mean_network(student: Size, teacher: Size) -> nn.Module:
    """Three layers on the student's feature at the size of the teacher's."""
    if len(student) != len(teacher):
        return adapter_for(student, teacher)  # which says what does not fit
    before, after = _channels(student), _channels(teacher)
    if len(teacher) == 4:
        resized = adapter_for(student, (teacher[0], before, *teacher[2:]))
        layers = [nn.Conv2d(width, after, kernel_size=1, bias=False) for width in (before, after, after)]
    else:
        resized = adapter_for(student, (*teacher[:-1], before))
        layers = [nn.Linear(width, after, bias=False) for width in (before, after, after)]
    return nn.Sequential(resized, layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def _channels(feature: Size) -> int:
    return feature[1] if len(feature) == 4 else feature[-1]
