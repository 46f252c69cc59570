"""What makes a generated image worth learning from, seen in the answers of the two networks."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from understudy.functional.geometry import precise


def logit_distance(
    student_logits: Float[Tensor, "*positions classes"], teacher_logits: Float[Tensor, "*positions classes"]
) -> Float[Tensor, "*positions"]:
    r"""Mean absolute difference of the logits, per position: :math:`\frac{1}{K} \sum_k |z^S_k - z^T_k|`.

    Unlike a divergence it does not fade where both networks are sure of themselves. Both logits get gradients, so
    that a generator of inputs can be trained against it.

    Args:
        student_logits: (..., classes).
        teacher_logits: the same shape.

    Returns:
        One value for each position, in the unit of the logits, in float32 or, for float64, in float64. 0 where the
        logits are equal, otherwise positive and unbounded.

    Example:
        >>> logit_distance(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, -1.0]]))
        tensor([2.])

    References:
        Fang et al.: Data-Free Adversarial Distillation, 2019 (arXiv:1912.11006), section 3, the model
        discrepancy.
    """
    return (precise(student_logits) - precise(teacher_logits)).abs().mean(-1)


def indecision(teacher_logits: Float[Tensor, "samples classes"]) -> Float[Tensor, ""]:
    r"""How far the answers are from one-hot: the cross-entropy with their own largest class.

    .. math:: -\frac{1}{N} \sum_i \log \max_k p^T_{ik}

    Args:
        teacher_logits: (samples, classes); they get the gradient.

    Returns:
        A scalar in nats: 0 for one-hot answers, at most :math:`\log K` for uniform ones.

    Example:
        >>> indecision(torch.tensor([[0.0, 1.0986123]]))  # probabilities 1/4 and 3/4
        tensor(0.2877)

    References:
        Chen et al.: Data-Free Learning of Student Networks (DAFL), ICCV 2019 (arXiv:1904.01186), the one-hot loss.
    """
    return -precise(teacher_logits).log_softmax(-1).amax(-1).mean()


def imbalance(teacher_logits: Float[Tensor, "samples classes"]) -> Float[Tensor, ""]:
    r"""How unequally a batch is spread over the classes: the entropy that its mean answer lacks.

    .. math:: \log K + \sum_k \bar p_k \log \bar p_k, \quad \bar p = \frac{1}{N} \sum_i p^T_i

    Args:
        teacher_logits: (samples, classes); they get the gradient.

    Returns:
        A scalar in nats: 0 where the mean answer is uniform, :math:`\log K` where all samples are surely of one
        class. The paper's information entropy loss is :math:`-H(\bar p) / K`, its authors' code :math:`-H(\bar p)`
        with logarithms of base 10: 1 / 2.303 of this. Neither adds the constant.

    Example:
        >>> imbalance(torch.tensor([[9.0, -9.0], [-9.0, 9.0]])).abs() < 1e-6
        tensor(True)

    References:
        Chen et al.: Data-Free Learning of Student Networks (DAFL), ICCV 2019 (arXiv:1904.01186), the information
        entropy loss.
    """
    answers = precise(teacher_logits).log_softmax(-1)
    count, classes = answers.shape
    log_mean = answers.logsumexp(0) - math.log(count)
    return math.log(classes) + (log_mean.exp() * log_mean).sum()


def statistics_gap(
    features: Float[Tensor, "samples channels *place"],
    *,
    mean: Float[Tensor, "channels"],
    variance: Float[Tensor, "channels"],
) -> Float[Tensor, ""]:
    r"""How far a batch is from the data that a batch normalisation has seen.

    .. math:: \| \mu - \hat\mu \|_2 + \| \sigma^2 - \hat\sigma^2 \|_2

    Args:
        features: (samples, channels, ...), what the layer is given; they get the gradient. Mean and variance are
            taken over all but the channels, the variance over n, not n - 1.
        mean: (channels,), the layer's running mean.
        variance: (channels,), its running variance.

    Returns:
        A scalar: the L2 norms over channels, not squared, 0 where both agree.

    Example:
        >>> statistics_gap(torch.tensor([[0.0], [2.0]]), mean=torch.tensor([4.0]), variance=torch.tensor([3.0]))
        tensor(5.)

    References:
        Yin et al.: Dreaming to Distill (DeepInversion), CVPR 2020 (arXiv:1912.08795), one layer of the
        feature distribution regularization.
    """
    rows = precise(features).movedim(1, -1).flatten(0, -2)
    found, centre = torch.var_mean(rows, dim=0, correction=0)
    return torch.linalg.vector_norm(centre - mean) + torch.linalg.vector_norm(found - variance)
