"""Distillation of the class token, layer by layer."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal, final

from torch import Size, Tensor, nn

from understudy.adapters import adapter_for
from understudy.feature_method import FeatureMethod, Form
from understudy.functional.transformers import patient_loss
from understudy.knowledge import LayerPairs
from understudy.objective import Method


@final
class Patient(FeatureMethod):
    r"""The class token goes through the student's layers in the directions that it has in the teacher's.

    .. math:: \sum_l \frac{1}{N C} \sum_i
        \left\| \frac{r_l(s_{il})}{\|r_l(s_{il})\|_2} - \frac{t_{il}}{\|t_{il}\|_2} \right\|_2^2

    Of each feature (N, T, C) of a layer the first token is read, the [CLS] of BERT and of ViT; where tokens have
    logits of their own, every token. ``auto`` pairs all the student's blocks but the last with evenly spaced ones of
    the teacher, which is the paper's PKD-Skip; name the teacher's last blocks but one for PKD-Last. The paper has
    networks of one width; where they differ, r is a trained linear map, otherwise the identity.

    Scale: the mean over samples and channels, summed over layers; 0 where the directions are the same, at most 4 / C
    for each layer. The paper sums over channels; the authors' code takes the mean over channels and layers,
    and weights between 10 and 1000 that differ from data set to data set. The gradient goes to the student, and to r.

    Example:
        >>> 100 * Patient(student_layer="encoder.layer.1", teacher_layer="encoder.layer.3")  # doctest: +ELLIPSIS
        Patient(kind='patient', weight=100.0, name=None, student_layer='encoder.layer.1', ...)
    """

    paper: ClassVar[str] = (
        "Sun, Cheng, Gan, Liu: Patient Knowledge Distillation for BERT Model Compression, EMNLP 2019 (arXiv:1908.09355)"
    )
    form: ClassVar[Form] = "first"

    kind: Literal["patient"] = "patient"

    def paired(self, pairs: LayerPairs) -> Method:
        """The same method with the layers for ``auto``, of which the last pair is left to the logits.

        Raises:
            InputError: when the two networks have no layers that belong together.
        """
        return super().paired(replace(pairs, stages=pairs.stages[:-1] or pairs.stages))

    def adapter(self, student: Size, teacher: Size) -> nn.Module:
        """A linear map where the widths differ."""
        return adapter_for(student, teacher)

    def compare(self, student: Tensor, teacher: Tensor, *, mask: Tensor | None, total: Tensor | None) -> Tensor:
        """Mean squared difference of the directions."""
        return patient_loss(student, teacher, mask=mask, total=total)
