"""How many weights are zeros while a network is pruned gradually."""


def cubic_sparsity(progress: float, *, final: float, initial: float = 0.0) -> float:
    r"""The share of zeros after a part of a gradual pruning: many at first, while there are many to spare, then fewer.

    .. math:: s(t) = s_f + (s_i - s_f) (1 - t)^3

    Args:
        progress: :math:`t`, how much of the pruning is done, 0 to 1.
        final: :math:`s_f`, the share of zeros at its end.
        initial: :math:`s_i`, that at its beginning.

    Returns:
        A share, from ``initial`` at 0 to ``final`` at 1.

    Example:
        >>> [round(cubic_sparsity(step / 4, final=0.8), 3) for step in range(5)]
        [0.0, 0.463, 0.7, 0.788, 0.8]

    References:
        Zhu, Gupta: To prune, or not to prune, 2017 (arXiv:1710.01878), eq. 1.
    """
    return final + (initial - final) * (1.0 - progress) ** 3
