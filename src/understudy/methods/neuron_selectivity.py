"""Distillation of what the neurons of a layer select."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from torch import Tensor

from understudy.feature_method import FeatureMethod, Form
from understudy.functional.features import neuron_selectivity_loss


@final
class NeuronSelectivity(FeatureMethod):
    r"""The student's channels are active in the patterns that the teacher's show, whichever channel shows which.

    .. math:: \frac{1}{N} \sum_i \mathrm{MMD}^2\left(
        \Big\{ \tfrac{s_{ic}}{\|s_{ic}\|_2} \Big\}_c, \Big\{ \tfrac{t_{ic}}{\|t_{ic}\|_2} \Big\}_c \right),
        \quad k(x, y) = (x^\top y)^2

    with the pixels of channel c of sample i as a vector, and the paper's polynomial kernel of d = 2, c = 0. The paper
    halves the discrepancy; the toolkits do not, nor does this, and 50 is a usual weight. Scale: 0 at equality, at
    most 2 for each pair of layers. Where the sizes differ, the larger feature is averaged down to the smaller. No
    parameters of its own. The gradient goes to the student only.

    Example:
        >>> 50 * NeuronSelectivity(student_layer="layer4", teacher_layer="layer4")  # doctest: +ELLIPSIS
        NeuronSelectivity(kind='neuron_selectivity', weight=50.0, ...)
    """

    paper: ClassVar[str] = (
        "Huang, Wang: Like What You Like: Knowledge Distill via Neuron Selectivity Transfer, 2017 (arXiv:1707.01219)"
    )
    pairing: ClassVar[Literal["stages", "last", "penultimate"]] = "last"
    form: ClassVar[Form] = "map"

    kind: Literal["neuron_selectivity"] = "neuron_selectivity"

    def compare(self, student: Tensor, teacher: Tensor, *, mask: Tensor | None, total: Tensor | None) -> Tensor:
        """Squared discrepancy of the channels' patterns."""
        return neuron_selectivity_loss(student, teacher, mask=mask, total=total)
