"""Losses between the relations that the samples of a batch have to each other; widths may differ."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from understudy.functional.geometry import precise, products, unit
from understudy.functional.reduction import positive

_SMALLEST_KERNEL = 1e-7


def relational_distance_loss(
    student_feature: Float[Tensor, "batch student_channels"],
    teacher_feature: Float[Tensor, "batch teacher_channels"],
) -> Float[Tensor, ""]:
    r"""Huber loss of the distances between samples, each side's in units of its own mean distance.

    .. math:: \frac{1}{|P|} \sum_{(i,j) \in P} l_\delta(\psi^S_{ij} - \psi^T_{ij}), \quad
        \psi_{ij} = \frac{1}{\mu} \| x_i - x_j \|_2

    P are the pairs of distinct samples, :math:`\mu` is the mean distance over P, and :math:`l_\delta` is quadratic
    up to 1. Equal samples have no gradient to each other; where all are equal all distances are 0.

    Args:
        student_feature: (batch, channels); the gradient goes here.
        teacher_feature: (batch, channels); a constant of the loss, which gives it no gradient.

    Returns:
        A scalar, in float32 or better.

    Scale:
        0 where the distances are proportional, and always for fewer than three samples; without unit. The mean
        over pairs; the paper sums, and the authors' code averages over all n² entries: this times (n - 1) / n.

    Example:
        >>> student = torch.tensor([[0.0], [1.0], [3.0]])  # distances 1, 2, 3; half of that after division
        >>> relational_distance_loss(student, torch.eye(3))  # all 1
        tensor(0.0833)

    References:
        Park et al.: Relational Knowledge Distillation, CVPR 2019 (arXiv:1904.05068), section 3.2.1.
    """
    pairs = len(student_feature) * (len(student_feature) - 1)
    student, teacher = _relative_distances(student_feature), _relative_distances(teacher_feature.detach())
    return F.smooth_l1_loss(student, teacher, reduction="sum") / max(pairs, 1)


def relational_angle_loss(
    student_feature: Float[Tensor, "batch student_channels"],
    teacher_feature: Float[Tensor, "batch teacher_channels"],
) -> Float[Tensor, ""]:
    r"""Huber loss of the angles that three samples form, by their cosines.

    .. math:: \frac{1}{|T|} \sum_{(i,j,k) \in T} l_\delta(\cos \angle s_i s_j s_k - \cos \angle t_i t_j t_k)

    T are the triples of distinct samples, :math:`l_\delta` is quadratic up to 1. An angle with a side of length 0
    (equal samples) counts as a right one, without gradient. Memory: n² channels + n³ numbers.

    Args:
        student_feature: (batch, channels); the gradient goes here.
        teacher_feature: (batch, channels); a constant of the loss, which gives it no gradient.

    Returns:
        A scalar, in float32 or better.

    Scale:
        0 where all triangles are similar, at most 1.5; without unit. The mean over triples; the paper sums, and the
        authors' code averages over all n³ entries: this times (n - 1) (n - 2) / n².

    Example:
        >>> student = torch.tensor([[0.0], [1.0], [3.0]])  # cosines 1, -1, 1
        >>> relational_angle_loss(student, torch.eye(3))  # all 1/2
        tensor(0.4167)

    References:
        Park et al.: Relational Knowledge Distillation, CVPR 2019 (arXiv:1904.05068), section 3.2.2.
    """
    count = len(student_feature)
    student, teacher = _cosines_of_angles(student_feature), _cosines_of_angles(teacher_feature.detach())
    # i = k is no angle: made the same on both sides, in place, as n³ numbers are many. Where i or k is j, both are 0.
    teacher.diagonal(dim1=1, dim2=2).copy_(student.detach().diagonal(dim1=1, dim2=2))
    losses = F.smooth_l1_loss(student, teacher, reduction="sum")
    return losses / max(count * (count - 1) * (count - 2), 1)


def similarity_preserving_loss(
    student_feature: Float[Tensor, "batch *student_feature"],
    teacher_feature: Float[Tensor, "batch *teacher_feature"],
) -> Float[Tensor, ""]:
    r"""Squared difference of two Gram matrices over the batch, each row of length one.

    .. math:: \frac{1}{b^2} \| G^T - G^S \|_F^2, \quad G_{i:} = \tilde G_{i:} / \| \tilde G_{i:} \|_2, \quad
        \tilde G = Q Q^\top

    :math:`Q` is the feature with one flat row per sample, :math:`b` the number of samples. A
    sample of zeros has a row of zeros.

    Args:
        student_feature: (batch, ...); the gradient goes here.
        teacher_feature: (batch, ...); a constant of the loss, which gives it no gradient.

    Returns:
        A scalar, in float32 or better.

    Scale:
        0 where the similarities are proportional; at most 4 / b, and 2 / b for features that are not negative; without
        unit. Paper and authors' code agree.

    Example:
        >>> similarity_preserving_loss(torch.eye(2), torch.ones(2, 7))
        tensor(0.2929)

    References:
        Tung, Mori: Similarity-Preserving Knowledge Distillation, ICCV 2019 (arXiv:1907.09682), section 3.
    """
    student, teacher = (
        unit(_gram(precise(feature).flatten(1))) for feature in (student_feature, teacher_feature.detach())
    )
    return (teacher - student).square().mean()


def correlation_congruence_loss(
    student_feature: Float[Tensor, "batch student_channels"],
    teacher_feature: Float[Tensor, "batch teacher_channels"],
    *,
    gamma: float = 0.4,
    order: int = 2,
) -> Float[Tensor, ""]:
    r"""Squared difference of two kernel matrices over the batch.

    .. math:: \frac{1}{n^2} \sum_{i,j} (K^S_{ij} - K^T_{ij})^2, \quad
        K_{ij} = e^{-2 \gamma} \sum_{p=0}^{P} \frac{(2 \gamma)^p}{p!} \langle x_i, x_j \rangle^p

    The Taylor series of order :math:`P` of the Gaussian kernel :math:`\exp(-\gamma \| x_i - x_j \|^2)` of vectors
    of length one. A sample of zeros has cosine 0 with all, and no gradient.

    Args:
        student_feature: (batch, channels), of any length; the gradient goes here.
        teacher_feature: (batch, channels); a constant of the loss, which gives it no gradient.
        gamma: :math:`\gamma > 0`, how fast the kernel falls with the distance.
        order: P, the highest power; 1 is the inner product with a factor and a constant.

    Returns:
        A scalar, in float32 or better.

    Scale:
        0 where all cosines are equal, at most 1 where none is negative, and 4 at all; without unit.

    Example:
        >>> correlation_congruence_loss(torch.eye(2), torch.ones(2, 3))  # half the square of 1.12 exp(-0.8)
        tensor(0.1266)

    References:
        Peng et al.: Correlation Congruence for Knowledge Distillation, ICCV 2019 (arXiv:1904.01802), section 3.
    """
    student, teacher = (
        _taylor(_cosines(feature), gamma, order) for feature in (student_feature, teacher_feature.detach())
    )
    return (student - teacher).square().mean()


def probabilistic_transfer_loss(
    student_feature: Float[Tensor, "batch student_channels"],
    teacher_feature: Float[Tensor, "batch teacher_channels"],
) -> Float[Tensor, ""]:
    r"""Divergence of two distributions over neighbours, for each sample, averaged over samples.

    .. math:: \frac{1}{n} \sum_i \sum_{j \ne i} p^T_{j|i} \log \frac{p^T_{j|i}}{p^S_{j|i}}, \quad
        p_{j|i} = \frac{K_{ij}}{\sum_{k \ne i} K_{ik}}, \quad K_{ij} = \tfrac{1}{2} (1 + \cos(x_i, x_j))

    :math:`K` is at least 1e-7, so that opposite samples stay finite. No sample is a neighbour of itself; one of zeros
    has cosine 0 with all, and no gradient.

    Args:
        student_feature: (batch, channels); the gradient goes here.
        teacher_feature: (batch, channels); a constant of the loss, which gives it no gradient.

    Returns:
        A scalar in nats, in float32 or better.

    Scale:
        0 where the distributions are equal, and always for fewer than three samples. The paper sums over samples; the
        authors' code keeps a sample among its own neighbours, averages over all n² entries (n times less than here),
        and adds 1e-7 inside the logarithm.

    Example:
        >>> student = torch.eye(3)  # every other sample has probability 1/2
        >>> teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # 2/3 and 1/3 for the first two
        >>> probabilistic_transfer_loss(student, teacher)
        tensor(0.0378)

    References:
        Passalis, Tefas: Learning Deep Representations with Probabilistic Knowledge Transfer, ECCV 2018
        (arXiv:1803.10837).
    """
    student, teacher = _neighbours(student_feature), _neighbours(teacher_feature.detach())
    return F.kl_div(student, teacher, reduction="sum", log_target=True) / max(len(student), 1)


def embedding_similarity_loss(
    student_feature: Float[Tensor, "batch student_channels"],
    teacher_feature: Float[Tensor, "batch teacher_channels"],
) -> Float[Tensor, ""]:
    r"""Mean squared difference of the cosines between distinct samples.

    .. math:: \frac{1}{n (n - 1)} \sum_{i \ne j} (\cos(s_i, s_j) - \cos(t_i, t_j))^2

    Over the pairs of the :math:`n` samples. A sample of zeros has cosine 0 with all, and no gradient.

    Args:
        student_feature: (batch, channels); the gradient goes here.
        teacher_feature: (batch, channels); a constant of the loss, which gives it no gradient.

    Returns:
        A scalar, in float32 or better.

    Scale:
        0 where all cosines are equal, at most 4; without unit. With the diagonal, which is 1 on both sides, the mean
        would be this times (n - 1) / n, and depend on the size of the batch.

    Example:
        >>> embedding_similarity_loss(torch.eye(2), torch.ones(2, 4))
        tensor(1.)

    References:
        Zhang et al.: Jasper and Stella: distillation of SOTA embedding models, 2024 (arXiv:2412.19048), the
        similarity loss.
    """
    count = len(student_feature)
    student, teacher = (_cosines(feature) for feature in (student_feature, teacher_feature.detach()))
    return _off_diagonal(student - teacher).square().sum() / max(count * (count - 1), 1)


def similarity_margin_loss(
    student_feature: Float[Tensor, "batch student_channels"],
    teacher_feature: Float[Tensor, "batch teacher_channels"],
) -> Float[Tensor, ""]:
    r"""Mean squared difference of the margins between two cosines with the same sample.

    .. math:: \frac{1}{n (n - 1) (n - 2)} \sum_{i \ne j \ne k \ne i} (d_{ij} - d_{ik})^2
        = \frac{2}{n (n - 2)} \sum_{i \ne j} (d_{ij} - \bar d_i)^2, \quad d_{ij} = \cos(s_i, s_j) - \cos(t_i, t_j)

    :math:`\bar d_i` is the mean over :math:`j \ne i`. The right-hand side is computed: n² terms in place of n³ triples.
    A sample of zeros has cosine 0 with all, and no gradient.

    Args:
        student_feature: (batch, channels); the gradient goes here.
        teacher_feature: (batch, channels); a constant of the loss, which gives it no gradient.

    Returns:
        A scalar, in float32 or better.

    Scale:
        0 where the cosines of each sample differ by a constant, and for fewer than three samples; at most 16; without
        unit.

    Example:
        >>> points = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # cosines 1, 0, 0
        >>> similarity_margin_loss(points, torch.ones(3, 4))  # margins 1, 1 and 0, where the teacher has none
        tensor(0.6667)

    References:
        Hofstätter et al.: Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge Distillation,
        2020 (arXiv:2010.02666), for margins; here of all triples of a batch.
    """
    count = len(student_feature)
    student, teacher = (_cosines(feature) for feature in (student_feature, teacher_feature.detach()))
    difference = _off_diagonal(student - teacher)
    deviation = difference - difference.sum(1, keepdim=True) / max(count - 1, 1)
    return 2.0 * deviation.square().sum() / max(count * (count - 2), 1)


def _relative_distances(feature: Tensor) -> Tensor:
    feature = precise(feature)
    distances = torch.cdist(feature, feature, compute_mode="donot_use_mm_for_euclid_dist")  # exact for near samples
    return distances / positive(distances.sum() / max(len(feature) * (len(feature) - 1), 1))


def _cosines_of_angles(feature: Tensor) -> Tensor:
    """Entry (j, i, k): the cosine of the angle at j between the directions to i and to k."""
    feature = precise(feature)
    return _gram(unit(feature - feature[:, None]))


def _taylor(cosines: Tensor, gamma: float, order: int) -> Tensor:
    """Horner's scheme for the first powers of exp(2 gamma (cosine - 1))."""
    series = torch.ones_like(cosines)
    for power in range(order, 0, -1):
        series = 1.0 + 2.0 * gamma / power * cosines * series
    return math.exp(-2.0 * gamma) * series


def _neighbours(feature: Tensor) -> Tensor:
    """Logarithms of the conditional probabilities off the diagonal, one line per sample: (n, n - 1)."""
    kernel = ((1.0 + _cosines(feature)) / 2.0).clamp(min=_SMALLEST_KERNEL)
    others = _off_diagonal(kernel)
    return (others / others.sum(1, keepdim=True)).log()


def _off_diagonal(matrix: Tensor) -> Tensor:
    """(n, n) to (n, n - 1): every line without its own entry."""
    count = len(matrix)
    return matrix.flatten()[1:].unflatten(0, (count - 1, count + 1))[:, :-1].reshape(count, count - 1)


def _cosines(feature: Tensor) -> Tensor:
    return _gram(unit(precise(feature)))


def _gram(rows: Tensor) -> Tensor:
    return products(rows, rows)
