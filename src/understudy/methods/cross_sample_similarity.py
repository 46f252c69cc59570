"""Distillation by similarity to the samples of past batches."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Size, Tensor, nn

from understudy.adapters import adapter_for
from understudy.feature_method import RelationMethod
from understudy.functional.geometry import precise, unit
from understudy.functional.similarities import cross_sample_similarity_loss
from understudy.gathering import remember


@final
class CrossSampleSimilarity(RelationMethod):
    r"""A student's embedding is as similar to the teacher's embeddings of past samples as the teacher's own is (SEED).

    .. math:: \frac{1}{B} \sum_i \mathrm{KL}(p^T_i \| p^S_i), \quad
        p^S_i = \mathrm{softmax}_j (s_i \cdot m_{ij} / \tau_S), \quad
        p^T_i = \mathrm{softmax}_j (t_i \cdot m_{ij} / \tau_T), \quad m_{i0} = t_i

    s and t are of length one, s after a linear map where the widths differ; m are the teacher's embeddings of the
    sample itself and of those that came last, of all processes, at first random directions. They are remembered in
    training mode only, after the loss is computed. No label is read: the paper distils self-supervised teachers on
    images alone. There the embeddings come from projection heads of 128 dimensions; here they are the features before
    the classifiers, so that the memory takes 4 bytes times the teacher's width times its places, in checkpoints too.

    Scale: nats, averaged over the B samples; 0 where the two distributions are equal, as they are for equal embeddings
    at equal temperatures. Paper and code write the cross-entropy instead of the divergence: the same gradient, shifted
    by the entropy of the teacher's distribution. The authors' code sets the teacher's temperature to 1e-4, at which
    it sees little but the sample itself. The gradient goes to the student and to the map.

    Example:
        >>> CrossSampleSimilarity(memory=4096)
        CrossSampleSimilarity(kind='cross_sample_similarity', weight=1.0, name=None, student_layer='auto',
            teacher_layer='auto', memory=4096, student_temperature=0.2, teacher_temperature=0.01)
    """

    paper: ClassVar[str] = (
        "Fang et al.: SEED: Self-supervised Distillation For Visual Representation, ICLR 2021 (arXiv:2101.04731)"
    )
    fewest: ClassVar[int] = 0
    """A batch where nothing counts gives a zero that is connected to the map, too."""

    kind: Literal["cross_sample_similarity"] = "cross_sample_similarity"
    memory: Annotated[int, Field(ge=1)] = 65536
    """How many past samples are kept."""
    student_temperature: Annotated[float, Field(gt=0.0)] = 0.2
    """τ of the student: divides its cosines."""
    teacher_temperature: Annotated[float, Field(gt=0.0)] = 0.01
    """τ of the teacher: divides its cosines; the lower, the more only the sample itself counts."""

    def relation(self, student: Size, teacher: Size) -> nn.Module:
        """The student's map and the memory."""
        return SimilarityMemory(self, student, teacher)


class SimilarityMemory(nn.Module):
    """The map of the student's embedding, and the embeddings that the teacher gave last.

    A call is a function of parameters, buffers and rows. In training mode it ends with the rows in the memory; all
    processes see the rows of all, and so keep the same memory.

    Args:
        method: size and temperatures.
        student: shape of the student's feature, the batch first.
        teacher: shape of the teacher's feature.
    """

    memory: Tensor
    place: Tensor

    def __init__(self, method: CrossSampleSimilarity, student: Size, teacher: Size) -> None:
        super().__init__()
        self.method = method
        self.projection = adapter_for(student, teacher)
        self.register_buffer("memory", unit(torch.randn(method.memory, teacher[-1])))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of rows that all count."""
        answer = unit(precise(teacher))
        loss = cross_sample_similarity_loss(
            unit(precise(self.projection(student))),
            answer,
            memory=self.memory.clone(),  # the backward pass needs what was there
            student_temperature=self.method.student_temperature,
            teacher_temperature=self.method.teacher_temperature,
        )
        if self.training:
            remember(self.place, (self.memory, answer))
        return loss
