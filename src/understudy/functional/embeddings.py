"""How far two sets of embeddings say the same of the same samples; their widths may differ."""

import torch
from jaxtyping import Float
from torch import Tensor

from understudy.functional.association import spearman_correlation
from understudy.functional.geometry import precise, unit

_ROWS = 1024
"""Samples whose neighbours are looked for at once."""
_TIE = 1e-6
"""Cosines nearer to each other than this are equal, but for rounding."""


def similarity_agreement(
    student_embeddings: Float[Tensor, "samples student_width"],
    teacher_embeddings: Float[Tensor, "samples teacher_width"],
    *,
    most: int = 200_000,
) -> Float[Tensor, ""]:
    r"""The rank correlation (Spearman) of the cosines of pairs of samples, student's and teacher's.

    Args:
        student_embeddings: (samples, width).
        teacher_embeddings: of the same samples.
        most: how many pairs are looked at; of more, so many are drawn, the same ones every time.

    Returns:
        A scalar from -1 to 1: 1 where both order all pairs alike; 0 for fewer than three samples.

    Example:
        >>> points = torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, 3.0]])
        >>> round(float(similarity_agreement(5.0 * points, points)), 6)
        1.0
    """
    first, second = _pairs(len(student_embeddings), most, student_embeddings.device)
    cosines = [
        (rows[first] * rows[second]).sum(-1) for rows in map(_directions, (student_embeddings, teacher_embeddings))
    ]
    return spearman_correlation(*cosines) if len(first) else cosines[0].double().sum()


def nearest_agreement(
    student_embeddings: Float[Tensor, "samples student_width"],
    teacher_embeddings: Float[Tensor, "samples teacher_width"],
    *,
    among: int,
) -> Float[Tensor, ""]:
    r"""How often the sample that is nearest for the teacher is among the nearest for the student, by cosine.

    Args:
        student_embeddings: (samples, width).
        teacher_embeddings: of the same samples.
        among: how many of the student's nearest ones are looked at.

    Returns:
        A scalar from 0 to 1, the mean over the samples; ties count as found. 0 for fewer than two samples.

    Example:
        >>> teacher = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> student = torch.tensor([[1.0, 0.0], [1.0, 0.2], [1.0, 0.3], [0.1, 1.0]])
        >>> nearest_agreement(student, teacher, among=1)
        tensor(0.5000, dtype=torch.float64)
    """
    student, teacher = _directions(student_embeddings), _directions(teacher_embeddings)
    count = len(student)
    if count < 2:
        return student.double().sum() * 0.0
    found = []
    for rows in torch.arange(count, device=student.device).split(_ROWS):
        own, other = (vectors[rows] @ vectors.T for vectors in (student, teacher))
        for cosines in (own, other):
            cosines[torch.arange(len(rows), device=rows.device), rows] = -torch.inf
        wanted = own.gather(1, other.argmax(1, keepdim=True))
        least = own.topk(min(among, count - 1), dim=1).values[:, -1:]
        found.append(wanted >= least - _TIE)
    return torch.cat(found).double().mean()


def _directions(embeddings: Tensor) -> Tensor:
    return unit(precise(embeddings))


def _pairs(count: int, most: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """All pairs of samples, or some of them."""
    if count * (count - 1) // 2 <= most:
        pairs = torch.triu_indices(count, count, 1)
    else:
        generator = torch.Generator().manual_seed(0)
        first = torch.randint(count, (most,), generator=generator)
        pairs = torch.stack([first, (first + torch.randint(1, count, (most,), generator=generator)) % count])
    pairs = pairs.to(device)
    return pairs[0], pairs[1]
