"""Distillation of the relations between patches."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Size, Tensor, nn

from understudy.feature_method import Form, RelationMethod
from understudy.functional.patches import patch_manifold_loss


@final
class PatchManifold(RelationMethod):
    r"""Patches of images are as similar to each other as they are to the teacher.

    .. math:: \frac{\alpha}{B P^2} \sum_i \| M(S_{i:}) - M(T_{i:}) \|_F^2
        + \frac{\beta}{P B^2} \sum_p \| M(S_{:p}) - M(T_{:p}) \|_F^2
        + \frac{\gamma}{K^2} \| M(S_D) - M(T_D) \|_F^2, \quad M(X) = \hat X \hat X^\top

    of patches at length one: those of an image, those at one place of the B images of all processes, and K that are
    drawn anew from all B · P in each step, from torch's global generator of each process (all, where there are not
    more). A class token and the like are left out; a pixel of a convolutional network's map is a patch; where one
    network has more patches, they are averaged to the other's grid, and so are more than ``side`` patches on a side, as
    the memory goes with the fourth power of that. The authors take the first and the last four
    blocks; ``auto`` takes every stage, or evenly spaced blocks.

    Scale: means over the entries of the matrices, summed over layers; 0 where all cosines are equal, at most
    4 (α + β + γ) for each layer. The paper's equation sums over the entries; the authors' code takes means, over the
    layers too, and that is what the weights here belong to. The gradient goes to the student only.

    Example:
        >>> PatchManifold(student_layer="blocks.11", teacher_layer="blocks.23")  # doctest: +ELLIPSIS
        PatchManifold(kind='patch_manifold', ..., within=4.0, across=0.1, anywhere=0.2, drawn=192, side=24)
    """

    paper: ClassVar[str] = (
        "Hao, Guo, Jia, Han, Tang, Zhang, Hu, Wang: Learning Efficient Vision Transformers via Fine-Grained Manifold "
        "Distillation, NeurIPS 2022 (arXiv:2107.01378)"
    )
    pairing: ClassVar[Literal["stages", "last", "penultimate"]] = "stages"
    form: ClassVar[Form] = "map"
    fewest: ClassVar[int] = 1
    """The patches of one image relate to each other too."""

    kind: Literal["patch_manifold"] = "patch_manifold"
    within: Annotated[float, Field(ge=0.0)] = 4.0
    """α: weight of the relations within an image."""
    across: Annotated[float, Field(ge=0.0)] = 0.1
    """β: weight of the relations across images, at each place."""
    anywhere: Annotated[float, Field(ge=0.0)] = 0.2
    """γ: weight of the relations between the patches that are drawn."""
    drawn: Annotated[int, Field(ge=1)] = 192
    """K: how many are drawn."""
    side: Annotated[int, Field(ge=1)] = 24
    """How many patches a map has on a side at the most; more are averaged."""

    def relation(self, student: Size, teacher: Size) -> nn.Module:  # noqa: ARG002 - any two maps go together
        """The relations, of patches that are drawn."""
        return Manifold(self)


class Manifold(nn.Module):
    """The relations between patches."""

    def __init__(self, method: PatchManifold) -> None:
        super().__init__()
        self.method = method

    def at_most(self, feature: Tensor) -> Tensor:
        """A map (n, channels, height, width) with no more patches on a side than are compared."""
        height, width = feature.shape[2:]
        if max(height, width) <= self.method.side:
            return feature
        return F.adaptive_avg_pool2d(feature, (min(height, self.method.side), min(width, self.method.side)))

    def draw(self, count: int, device: torch.device) -> Tensor | None:
        """Which of so many patches are compared with each other; None for all."""
        return torch.randperm(count, device=device)[: self.method.drawn] if count > self.method.drawn else None

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of images that all count."""
        student, teacher = self.at_most(student), self.at_most(teacher)
        places = min(student.shape[2], teacher.shape[2]) * min(student.shape[3], teacher.shape[3])
        return patch_manifold_loss(
            student,
            teacher,
            within=self.method.within,
            across=self.method.across,
            anywhere=self.method.anywhere,
            drawn=self.draw(len(student) * places, student.device),
        )
