"""Distillation of which neurons are active."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Size, Tensor, nn

from understudy.adapters import adapter_for
from understudy.feature_method import FeatureMethod
from understudy.functional.feature_maps import activation_boundary_loss


@final
class ActivationBoundaries(FeatureMethod):
    r"""The student's neurons are active where the teacher's are, by a margin; how strongly does not matter.

    .. math:: \frac{1}{N} \sum_i \sum_j \max(0, m - s_{ij})^2 \, [t_{ij} > 0] + \max(0, m + s_{ij})^2 \, [t_{ij} \le 0]

    where s is the student's feature, through a trained adapter where the shapes differ. Name student layers that end
    before their activation function: behind a ReLU of equal width nothing can be pushed below zero. Of the teacher
    either will do. Scale: summed over the neurons, averaged over the samples, as in paper and code, so that weights
    are small (the authors' is 0.003 for the last layer and half of the following one's for each before); 0 where
    all neurons are at least the margin on the teacher's side, and at equality what lies within the margin still
    counts. The paper trains it before the other terms: give the weight a schedule for that; its adapter also has
    a batch normalisation. The gradient goes to the student and to the adapter.

    Example:
        >>> 0.003 * ActivationBoundaries(student_layer="bn3", teacher_layer="bn3")  # doctest: +ELLIPSIS
        ActivationBoundaries(kind='activation_boundaries', weight=0.003, ..., margin=1.0)
    """

    paper: ClassVar[str] = (
        "Heo, Lee, Yun, Choi: Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons, "
        "AAAI 2019 (arXiv:1811.03233)"
    )

    kind: Literal["activation_boundaries"] = "activation_boundaries"
    margin: Annotated[float, Field(gt=0.0)] = 1.0
    """m: how far on its side of zero a neuron has to be."""

    def adapter(self, student: Size, teacher: Size) -> nn.Module:
        """The paper's connector, where needed."""
        return adapter_for(student, teacher)

    def compare(self, student: Tensor, teacher: Tensor, *, mask: Tensor | None, total: Tensor | None) -> Tensor:
        """Squared hinge, summed over the neurons."""
        return activation_boundary_loss(student, teacher, margin=self.margin, mask=mask, total=total)
