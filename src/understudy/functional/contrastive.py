"""Losses that tell pairs of one sample from pairs of two."""

import math

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from understudy.functional.geometry import precise, products


def contrastive_loss(
    student_embedding: Float[Tensor, "batch channels"],
    teacher_embedding: Float[Tensor, "batch channels"],
    *,
    student_memory: Float[Tensor, "negatives channels"],
    teacher_memory: Float[Tensor, "negatives channels"],
    temperature: float = 0.07,
) -> Float[Tensor, ""]:
    r"""A critic tells two embeddings of one sample from those of two samples: noise-contrastive estimation.

    .. math:: -\frac{1}{B} \sum_i \Big[ 2 \log h(s_i, t_i) + \sum_{n=1}^{N} \log (1 - h(s_i, m^T_n))
        + \sum_{n=1}^{N} \log (1 - h(m^S_n, t_i)) \Big], \quad h(u, v) = \frac{e^{u v / \tau}}{e^{u v / \tau} + N Z}

    Both sides are anchors, with the other side's memory as negatives. :math:`Z = e^{1 / (2 d \tau^2)}` is the mean
    of :math:`e^{u v / \tau}` over random directions in d dimensions.

    Args:
        student_embedding: (batch, channels), rows of length one; the gradient goes here.
        teacher_embedding: (batch, channels), rows of length one, and what their projection learns from: the one
            argument of a teacher here that gets a gradient.
        student_memory: (negatives, channels), embeddings of other samples; a constant.
        teacher_memory: the same of the teacher; a constant.
        temperature: :math:`\tau > 0`.

    Returns:
        A scalar in nats, in float32 or better; 0 for an empty batch.

    Scale:
        Summed over negatives and both anchors, averaged over the batch. Never 0: equality is not what it asks for.
        Embeddings that know nothing have about :math:`2 (1 + \log N Z)` for large N. The authors' code sets Z from the
        first batch, when its memory is random, to about the same number.

    Example:
        >>> import torch
        >>> nothing = torch.zeros(1, 128)
        >>> contrastive_loss(nothing, nothing, student_memory=nothing, teacher_memory=nothing, temperature=1.0)
        tensor(2.7726)

    References:
        Tian, Krishnan, Isola: Contrastive Representation Distillation, ICLR 2020 (arXiv:1910.10699), section 3.1.
    """
    student, teacher = precise(student_embedding), precise(teacher_embedding)
    negatives, channels = student_memory.shape
    offset = math.log(negatives) + 1.0 / (2.0 * channels * temperature**2)
    positive = (student * teacher).sum(-1) / temperature - offset
    of_student = products(student, precise(teacher_memory.detach())) / temperature - offset
    of_teacher = products(teacher, precise(student_memory.detach())) / temperature - offset
    likelihood = 2.0 * F.logsigmoid(positive) + F.logsigmoid(-of_student).sum(-1) + F.logsigmoid(-of_teacher).sum(-1)
    return -likelihood.sum() / max(len(student), 1)
