"""Distillation of how a network gets from one layer to the next."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal, final

import torch
from torch import Size, Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError
from understudy.feature_method import FeatureMethod, Form, samples_in_step
from understudy.functional.feature_maps import fsp_loss
from understudy.functional.layout import as_map
from understudy.knowledge import Knowledge, Shapes


@final
class Fsp(FeatureMethod):
    r"""The flow of the solution procedure: which channels of a layer go with which of the layer named after it.

    .. math:: \frac{1}{N C D} \sum_i \| G^S_i - G^T_i \|_F^2, \quad G_{cd} = \frac{1}{H W} \sum_{h, w} A_{chw} B_{dhw}

    summed over the layers A and B that follow each other in the list; at least two of each network. The paper has
    networks of as many channels; where a student's layer has another number than its teacher's, a trained 1×1
    convolution brings it there. Where A and B differ in size, the larger is averaged down, as toolkits do (the paper
    takes maxima). Scale: the mean over the entries of G, where the paper sums; 0 at
    equality; the fourth power of the features' unit. The paper trains it before the other terms: give the weight a
    schedule for that. Samples outside the mask do not count; where the logits have positions of their own, every
    sample counts. The gradient goes to the student, and to the convolutions.

    Example:
        >>> Fsp(student_layer=("layer1", "layer2"), teacher_layer=("layer1", "layer2"))  # doctest: +ELLIPSIS
        Fsp(kind='fsp', weight=1.0, name=None, student_layer=('layer1', 'layer2'), ...)
    """

    paper: ClassVar[str] = (
        "Yim, Joo, Bae, Kim: A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer "
        "Learning, CVPR 2017"
    )
    form: ClassVar[Form] = "map"

    kind: Literal["fsp"] = "fsp"

    def build(self, shapes: Shapes) -> nn.Module:
        """All flows.

        Raises:
            InputError: for fewer than two layers, or naming every layer that is no map.
        """
        pairs = list(zip(self.student_taps, self.teacher_taps, strict=True))
        if len(pairs) < 2:
            raise InputError(
                f"{self.label}: expected two or more layers of each network, in the order of the network, got "
                f"{len(pairs)}; name more in student_layer and teacher_layer"
            )
        problems, adapters = [], []
        for student, teacher in pairs:
            try:
                own, other = _channels(shapes.of_student(student)), _channels(shapes.of_teacher(teacher))
                adapters.append(nn.Conv2d(own, other, kernel_size=1, bias=False) if own != other else nn.Identity())
            except InputError as error:
                problems.append(f"{self.label} ({student!r} to {teacher!r}): {error}")
        if problems:
            raise InputError("\n".join(problems))
        return Flows(self, adapters)


class Flows(nn.Module):
    """The flows between consecutive layers."""

    def __init__(self, method: Fsp, adapters: Sequence[nn.Module]) -> None:
        super().__init__()
        self.method = method
        self.adapters = nn.ModuleList(adapters)

    def forward(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """The sum over all pairs of layers that follow each other."""
        paths = zip(self.adapters, self.method.student_taps, strict=True)
        shown = [adapter(as_map(student.features[path])) for adapter, path in paths]
        answers = [as_map(teacher.features[path]) for path in self.method.teacher_taps]
        by_sample = len(student.places) == 1
        mask, total = (student.mask, samples_in_step(student, batch)) if by_sample else (None, None)
        flows = zip(pairwise(shown), pairwise(answers), strict=True)
        return torch.stack([fsp_loss(one, other, mask=mask, total=total) for one, other in flows]).sum()


def _channels(shape: Size) -> int:
    return as_map(torch.empty(shape, device="meta")).shape[1]
