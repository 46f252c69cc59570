"""Distillation by contrast with other samples."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Size, Tensor, nn

from understudy.feature_method import RelationMethod
from understudy.functional.contrastive import contrastive_loss
from understudy.functional.geometry import precise, unit
from understudy.gathering import remember


@final
class Contrastive(RelationMethod):
    r"""A student's embedding is closer to the teacher's of the same sample than to those of other samples (CRD).

    .. math:: -\frac{1}{B} \sum_i \Big[ 2 \log h(s_i, t_i) + \sum_{n=1}^{N} \log (1 - h(s_i, m^T_n))
        + \sum_{n=1}^{N} \log (1 - h(m^S_n, t_i)) \Big], \quad h(u, v) = \frac{e^{u v / \tau}}{e^{u v / \tau} + N Z}

    s and t are linear projections of the two features, of length one; m are the projections of the N samples that
    came last, of all processes, at first random directions. They are remembered in training mode only, after the loss
    is computed. Difference from the paper: its memory has a place for every sample of the data set, which moves half
    of the way to what is new, and negatives (in the authors' code also the partner of an anchor) are drawn from it; a
    queue needs no sample numbers, and the partner is the embedding of this batch. Keep the queue shorter than the data
    set, or a sample meets its own past as a negative. Z, which the authors' code takes from its first batch, is its
    expectation then, :math:`e^{1 / (2 d \tau^2)}`.

    While the random directions make room for embeddings that are still all alike, in the first memory / batch steps,
    the loss rises; with a high learning rate, begin with a small weight.

    Scale: nats, summed over negatives, averaged over the B samples; never 0, also not at equality, and about
    :math:`2 (1 + \log N Z)` at the start. The authors' weight is 0.8. The gradient goes to the student and to both
    projections.

    Example:
        >>> 0.8 * Contrastive(memory=4096)
        Contrastive(kind='contrastive', weight=0.8, name=None, student_layer='auto', teacher_layer='auto',
            dimensions=128, memory=4096, temperature=0.07)
    """

    paper: ClassVar[str] = (
        "Tian, Krishnan, Isola: Contrastive Representation Distillation, ICLR 2020 (arXiv:1910.10699)"
    )
    fewest: ClassVar[int] = 0
    """A batch where nothing counts gives a zero that is connected to the projections, too."""

    kind: Literal["contrastive"] = "contrastive"
    dimensions: Annotated[int, Field(ge=1)] = 128
    """Dimensions that both features are projected to."""
    memory: Annotated[int, Field(ge=1)] = 16384
    """N: how many past samples are kept as negatives."""
    temperature: Annotated[float, Field(gt=0.0)] = 0.07
    """τ: divides the inner products."""

    def relation(self, student: Size, teacher: Size) -> nn.Module:
        """The two projections and the memory."""
        return ContrastiveMemory(self, student[-1], teacher[-1])


class ContrastiveMemory(nn.Module):
    """The projections of student and teacher, and the embeddings that they gave last.

    A call is a function of parameters, buffers and rows. In training mode it ends with the rows in the memory; all
    processes see the rows of all, and so keep the same memory.

    Args:
        method: sizes and temperature.
        student: width of the student's feature.
        teacher: width of the teacher's feature.
    """

    student_memory: Tensor
    teacher_memory: Tensor
    place: Tensor

    def __init__(self, method: Contrastive, student: int, teacher: int) -> None:
        super().__init__()
        self.method = method
        self.student_projection = nn.Linear(student, method.dimensions)
        self.teacher_projection = nn.Linear(teacher, method.dimensions)
        for name in ("student_memory", "teacher_memory"):
            self.register_buffer(name, unit(torch.randn(method.memory, method.dimensions)))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of rows that all count."""
        own, answer = _projected(self.student_projection, student), _projected(self.teacher_projection, teacher)
        loss = contrastive_loss(
            own,
            answer,
            student_memory=self.student_memory.clone(),  # the backward pass needs what was there
            teacher_memory=self.teacher_memory.clone(),
            temperature=self.method.temperature,
        )
        if self.training:
            remember(self.place, (self.student_memory, own), (self.teacher_memory, answer))
        return loss


def _projected(projection: nn.Linear, rows: Tensor) -> Tensor:
    return unit(precise(projection(rows.to(projection.weight.dtype))))
