"""How much each of several losses of one network should count."""

import torch
from jaxtyping import Float
from torch import Tensor


def gradient_norm_weights(
    norms: Float[Tensor, "terms"], rates: Float[Tensor, "terms"], *, alpha: float
) -> Float[Tensor, "terms"]:
    r"""The weights at which the gradients of all terms are as long as their progress asks for.

    .. math:: w_i = T \, \frac{\rho_i^\alpha / g_i}{\sum_j \rho_j^\alpha / g_j}

    These are the weights, summing to T, at which each :math:`w_i g_i` is the mean of all of them times
    :math:`r_i^\alpha` up to a common factor, with :math:`r_i = \rho_i / \frac{1}{T} \sum_j \rho_j`: the relative
    inverse training rate of the paper's eq. 2 and Algorithm 1.

    Args:
        norms: g, the L2 norm of the gradient of each unweighted term on the parameters that they share. A term
            with 0 says nothing: its weight is 1, and the others share the rest of the sum.
        rates: ρ, the term's value as a part of what it was at first: 1 at the start, 0 when it is solved.
        alpha: how strongly terms that lag behind are favoured; 0 makes all gradients equally long.

    Returns:
        One weight for each term, 0 or more and finite, summing to the number of terms.

    Example:
        >>> gradient_norm_weights(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]), alpha=0.0)
        tensor([1.5000, 0.5000])

    References:
        Chen et al.: GradNorm, ICML 2018 (arXiv:1711.02257), sections 3.1 and 3.2.
    """
    heard = norms > 0
    wanted = alpha * rates.clamp(min=torch.finfo(rates.dtype).tiny).log() - torch.where(heard, norms, 1.0).log()
    shares = torch.where(heard, wanted, -torch.inf).softmax(0)
    return torch.where(heard, heard.sum() * shares, 1.0)
