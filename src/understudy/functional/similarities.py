"""Losses between the similarities of a sample to others, as a student and as a teacher see them."""

import torch
from jaxtyping import Float
from torch import Tensor

from understudy.functional.divergences import kl_divergence
from understudy.functional.geometry import precise, products


def cross_sample_similarity_loss(
    student_embedding: Float[Tensor, "batch channels"],
    teacher_embedding: Float[Tensor, "batch channels"],
    *,
    memory: Float[Tensor, "others channels"],
    student_temperature: float = 0.2,
    teacher_temperature: float = 0.01,
) -> Float[Tensor, ""]:
    r"""Divergence of two distributions over the sample itself and others: to which of them it is similar.

    .. math:: \frac{1}{B} \sum_i \mathrm{KL}(p^T_i \| p^S_i), \quad
        p^S_i = \mathrm{softmax}_j (s_i \cdot m_{ij} / \tau_S), \quad
        p^T_i = \mathrm{softmax}_j (t_i \cdot m_{ij} / \tau_T), \quad m_{i0} = t_i

    The others, :math:`m_{i1}, m_{i2}, \dots`, are the teacher's embeddings on both sides, so that the student's has to
    lie in the teacher's space.

    Args:
        student_embedding: (batch, channels), rows of length one; the gradient goes here.
        teacher_embedding: the same shape, rows of length one; a constant of the loss, which gives it no gradient.
        memory: (others, channels), the teacher's embeddings of other samples, rows of length one; a constant.
        student_temperature: :math:`\tau_S > 0`.
        teacher_temperature: :math:`\tau_T > 0`; the lower, the more only the sample itself counts.

    Returns:
        A scalar in nats, in float32 or better; 0 for an empty batch.

    Scale:
        Averaged over the batch. 0 where the distributions are equal, as those of equal embeddings are at equal
        temperatures; otherwise positive. The paper writes the cross-entropy instead of the divergence: the same
        gradient, shifted by the entropy of the teacher's distribution. For :math:`\tau_T \to 0` it is the contrastive
        loss with the teacher's embedding of the sample as the one that belongs to it.

    Example:
        >>> teacher, memory = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> cross_sample_similarity_loss(teacher, teacher, memory=memory, teacher_temperature=0.2)
        tensor(0.)
        >>> cross_sample_similarity_loss(torch.zeros(1, 2), teacher, memory=memory)
        tensor(0.6931)

    References:
        Fang et al.: SEED: Self-supervised Distillation For Visual Representation, ICLR 2021 (arXiv:2101.04731).
    """
    teacher, others = precise(teacher_embedding.detach()), precise(memory.detach())
    student, answer = (
        torch.cat([(rows * teacher).sum(-1, keepdim=True), products(rows, others)], dim=1) / temperature
        for rows, temperature in ((precise(student_embedding), student_temperature), (teacher, teacher_temperature))
    )
    return kl_divergence(student, answer).sum() / max(len(student), 1)
