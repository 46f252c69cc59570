"""Distillation of a summary of the teacher's feature, which a network learns from that feature alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Size, Tensor, nn

from understudy.adapters import adapter_for
from understudy.feature_method import FeatureMethod, Form
from understudy.functional.factors import factor_transfer_loss
from understudy.functional.features import hint_loss

_SLOPE = 0.1


@final
class FactorTransfer(FeatureMethod):
    r"""The student's factor, made by a translator, points where the teacher's does, made by a paraphraser.

    .. math:: \frac{1}{N D} \sum_i \left\| \frac{F^S_i}{\|F^S_i\|_2} - \frac{F^T_i}{\|F^T_i\|_2} \right\|_p^p
        + \frac{\rho}{N M} \sum_i \| x_i - P(x_i) \|_2^2, \quad F^T = E(x), \quad P = R \circ E

    of the teacher's feature x with M values; F are the factors, with D. The paraphraser P has three 3×3 convolutions E
    down to k times the channels of x, and three transposed ones R back; the translator has three convolutions, from
    the student's feature at the size of x; each of them ends in a leaky ReLU (0.1).

    The paper trains the paraphraser beforehand, on the teacher's features alone, and then keeps it as it is. Here it
    trains alongside, on its own reconstruction (the second part) and on nothing else: the teacher's factor is a
    constant of the first part, so that the student never makes its task easier by changing the paraphraser. What the
    student is asked for therefore moves in the first epochs, and settles as the reconstruction does: give the weight
    a schedule where that harms.

    Scale: the first part is the mean over the values of factors of unit length, as in the authors' code; no unit, and
    below :math:`2 / \sqrt{D}` for p = 1. The second is the mean over elements in the squared unit of the teacher's
    feature. 0 where the factors point the same way and the reconstruction is perfect. The term's weight multiplies
    both: ρ times the authors' weight of 500 is 1, their weight of the reconstruction. The gradient of the first part
    goes to the student and the translator, that of the second to the paraphraser; all of them belong to the objective.

    Example:
        >>> 500 * FactorTransfer(student_layer="layer4", teacher_layer="layer4")  # doctest: +ELLIPSIS
        FactorTransfer(kind='factor_transfer', weight=500.0, ..., rate=0.5, norm=1.0, reconstruction=0.002)
    """

    paper: ClassVar[str] = (
        "Kim, Park, Kwak: Paraphrasing Complex Network: Network Compression via Factor Transfer, NeurIPS 2018 "
        "(arXiv:1802.04977)"
    )
    pairing: ClassVar[Literal["stages", "last", "penultimate"]] = "last"
    form: ClassVar[Form] = "map"

    kind: Literal["factor_transfer"] = "factor_transfer"
    rate: Annotated[float, Field(gt=0.0)] = 0.5
    """k: the channels of the factors over those of the teacher's feature."""
    norm: Annotated[float, Field(ge=1.0)] = 1.0
    """p: the power of the differences of the factors."""
    reconstruction: Annotated[float, Field(gt=0.0)] = 0.002
    """ρ: how much the paraphraser's own loss counts beside that of the factors."""

    def join(self, student: Size, teacher: Size) -> nn.Module:
        """A paraphraser and a translator.

        Raises:
            InputError: when the two shapes do not fit.
        """
        return Transfer(self, student, teacher)


class Transfer(nn.Module):
    """A paraphraser (an encoder and a decoder) of the teacher's feature, and a translator of the student's.

    Args:
        method: the hyper-parameters.
        student: shape of the student's map, the batch first.
        teacher: the same of the teacher's.
    """

    def __init__(self, method: FactorTransfer, student: Size, teacher: Size) -> None:
        super().__init__()
        self.method = method
        own, other = student[1], teacher[1]
        factors = max(1, int(method.rate * other))
        self.adapter = adapter_for(student, (teacher[0], own, *teacher[2:]))
        self.translator = _layers(nn.Conv2d, (own, own, factors, factors))
        self.encoder = _layers(nn.Conv2d, (other, other, factors, factors))
        self.decoder = _layers(nn.ConvTranspose2d, (factors, factors, other, other))

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor | None, total: Tensor | None) -> Tensor:
        """The loss of one pair of layers."""
        answer = teacher.detach()
        factor = self.encoder(answer)
        translated = self.translator(self.adapter(student))
        transferred = factor_transfer_loss(translated, factor.detach(), norm=self.method.norm, mask=mask, total=total)
        restored = hint_loss(self.decoder(factor), answer, mask=mask, total=total)
        return transferred + self.method.reconstruction * restored


def _layers(layer: type[nn.Conv2d | nn.ConvTranspose2d], channels: tuple[int, int, int, int]) -> nn.Sequential:
    """Three layers with 3×3 kernels that keep a map's size, each with a leaky ReLU behind it."""
    modules: list[nn.Module] = []
    for before, after in pairwise(channels):
        modules += [layer(before, after, kernel_size=3, padding=1), nn.LeakyReLU(_SLOPE)]
    return nn.Sequential(*modules)
