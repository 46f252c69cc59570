"""Distillation of where in an image the teacher sees each class."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, final

import torch.nn.functional as F
from pydantic import Field
from torch import Size, Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError
from understudy.feature_method import FeatureMethod, Form, compared
from understudy.functional.class_attention import class_activation_maps, class_attention_loss
from understudy.functional.geometry import precise
from understudy.knowledge import Answers, Knowledge, LayerPairs, Shapes
from understudy.objective import Method


@final
class ClassAttention(FeatureMethod):
    r"""The student's class activation maps, averaged to a small grid, have the direction of the teacher's.

    .. math:: \frac{1}{N K g^2} \sum_{i, k} \left\| \frac{P m^S_{ik}}{\|P m^S_{ik}\|_2}
        - \frac{P m^T_{ik}}{\|P m^T_{ik}\|_2} \right\|_2^2, \quad m_{ik}(x, y) = \sum_c w_{kc} f_{ic}(x, y)

    of the last map f of each network and the weight w of its classifier, without the bias, for all K classes, whether
    they are the right ones or not. P averages to g × g cells. Where a network does more between the map and the
    classifier than taking a mean (a normalisation, a class token) that is left out.

    Scale: the mean over cells, classes and samples; 0 where every map is the teacher's times a positive number, at
    most :math:`4 / g^2`; no unit. In the authors' configurations the weight is 50 where it is the only term (CAT).
    Beside cross-entropy (CAT-KD) they leave the maps their lengths (``unit_length=False``), with a weight of 15 for
    ResNets on CIFAR-100, and of 0.5 with g = 4 on ImageNet. The gradient goes to the student, its classifier's weight
    included.

    Example:
        >>> 50 * ClassAttention()  # doctest: +ELLIPSIS
        ClassAttention(kind='class_attention', weight=50.0, ..., grid=2, unit_length=True)
    """

    paper: ClassVar[str] = (
        "Guo, Yan, Li, Lin: Class Attention Transfer Based Knowledge Distillation, CVPR 2023 (arXiv:2304.12777)"
    )
    compares_logits: ClassVar[bool] = True
    answers: ClassVar[tuple[Answers, ...]] = ("classes",)
    pairing: ClassVar[Literal["stages", "last", "penultimate"]] = "last"
    form: ClassVar[Form] = "map"

    kind: Literal["class_attention"] = "class_attention"
    student_classifier: str = "auto"
    """Path of the weight of the student's last layer, such as ``fc.weight``; ``auto`` finds it."""
    teacher_classifier: str = "auto"
    """Path of the weight of the teacher's last layer; ``auto`` finds it."""
    grid: Annotated[int, Field(gt=0)] = 2
    """g: to how many cells in height and in width the maps are averaged."""
    unit_length: bool = True
    """Whether each averaged map is divided by its length."""

    @property
    def student_taps(self) -> tuple[str, ...]:
        """The student's map and its classifier's weight."""
        return tuple(own for own, _ in self.layers) + _named(self.student_classifier)

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """The teacher's map and its classifier's weight."""
        return tuple(other for _, other in self.layers) + _named(self.teacher_classifier)

    @property
    def wants_pairs(self) -> bool:
        """Whether a map or a classifier is still to be found."""
        return "auto" in (self.student_layer, self.student_classifier, self.teacher_classifier)

    def paired(self, pairs: LayerPairs) -> Method:
        """The same method with ``auto`` replaced by layers and weights.

        Raises:
            InputError: when a network has no map, or no single linear layer that gives its logits.
        """
        found = super().paired(pairs) if self.student_layer == "auto" else self
        wanted = [name for name in ("student_classifier", "teacher_classifier") if getattr(self, name) == "auto"]
        if wanted and not pairs.classifier:
            raise InputError(
                f"{self.label}: expected a single linear layer, or a 1×1 convolution, that gives the logits of the "
                "student and one of the teacher; found none in one of them. Name the weight of its last layer with "
                f"{' and '.join(wanted)} (such as 'fc.weight'), or use attention_transfer, which needs none"
            )
        paths: dict[str, Any] = (
            {
                name: f"{path}.weight"
                for name, path in zip(("student_classifier", "teacher_classifier"), *pairs.classifier, strict=True)
                if name in wanted
            }
            if wanted
            else {}
        )
        return found.model_copy(update=paths)

    def build(self, shapes: Shapes) -> nn.Module:
        """The comparison.

        Raises:
            InputError: for several pairs of layers, a map without pixels, or a classifier of something else.
        """
        if len(self.layers) != 1:
            raise InputError(
                f"{self.label}: expected one layer of each network, the last map before the classifier, got "
                f"{len(self.layers)}"
            )
        ((form, student, teacher),) = self.of_each_pair(shapes, lambda form, own, other: (form, own, other))
        (own, other), problems = self.layers[0], []
        weights = shapes.student[self.student_classifier], shapes.teacher[self.teacher_classifier]
        for side, path, feature, name, weight in (
            ("student", own, student, self.student_classifier, weights[0]),
            ("teacher", other, teacher, self.teacher_classifier, weights[1]),
        ):
            problems += [f"{self.label}: {side} {text}" for text in _unfit(path, feature, name, weight)]
        if problems:
            raise InputError("\n".join(problems))
        return ClassMaps(self, form)


class ClassMaps(nn.Module):
    """The class activation maps of both networks."""

    def __init__(self, method: ClassAttention, form: Form) -> None:
        super().__init__()
        self.method = method
        self.form: Form = form

    def forward(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """The difference of their maps."""
        method = self.method
        ((feature, answer, mask, total),) = compared(method, [self.form], student, teacher, batch)
        # The mean over the pixels of a cell, and then the classifier: the same as the other way round, for less.
        maps, maps_of_teacher = (
            class_activation_maps(F.adaptive_avg_pool2d(precise(pixels), method.grid), weight)
            for pixels, weight in (
                (feature, student.features[method.student_classifier]),
                (answer.detach(), teacher.features[method.teacher_classifier].detach()),
            )
        )
        return class_attention_loss(
            maps, maps_of_teacher, grid=method.grid, unit_length=method.unit_length, mask=mask, total=total
        )


def _named(path: str) -> tuple[str, ...]:
    return () if path == "auto" else (path,)


def _unfit(path: str, feature: Size, name: str, weight: Size) -> list[str]:
    """Why there are no class activation maps of a feature (N, C, H, W) and a weight (K, C) or (K, C, 1, 1)."""
    problems = []
    if feature[2:].numel() == 1:
        problems.append(
            f"layer {path!r} gives one pixel, in which every class is at the same place; expected a map. Take an "
            "earlier layer, or larger inputs"
        )
    if len(weight) < 2 or weight[1:].numel() != feature[1]:
        problems.append(
            f"classifier {name!r} has the shape {tuple(weight)}, layer {path!r} gives {feature[1]} channels; expected "
            "a weight (classes, channels) of the mean of that map. Name another layer, or a network whose classifier "
            "is one linear layer behind a mean over pixels"
        )
    return problems
