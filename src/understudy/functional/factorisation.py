"""Weights as products of smaller ones: how much a rank keeps, and the factors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def mode_spectrum(weight: Float[Tensor, "outputs inputs *window"], *, mode: int) -> Float[Tensor, " size"]:
    r"""Squared singular values of a weight that is laid out as a matrix.

    Args:
        weight: of a linear layer, or of a convolution with its window behind.
        mode: the dimension that the rows of the matrix are: 0 for the outputs, 1 for the inputs. Everything else is
            in the columns.

    Returns:
        (size of that dimension,), the largest first, in float64 on the CPU; their sum is :math:`\|W\|^2`.

    Example:
        >>> mode_spectrum(torch.tensor([[3.0, 0.0], [0.0, 4.0]]), mode=0)
        tensor([16.,  9.], dtype=torch.float64)
    """
    rows = _rows(_precise(weight), mode)
    return torch.linalg.eigvalsh(rows @ rows.T).flip(0).clamp(min=0.0)


def rank_for_energy(squares: Float[Tensor, " size"], *, energy: float) -> int:
    """The smallest rank that keeps a share of the squared singular values.

    Args:
        squares: the largest first.
        energy: between 0 and 1, the share of their sum; 1 keeps all of them.

    Returns:
        At least 1.

    Example:
        >>> [rank_for_energy(torch.tensor([16.0, 9.0]), energy=energy) for energy in (0.0, 0.64, 0.65, 1.0)]
        [1, 1, 2, 2]
    """
    if energy >= 1.0:
        return len(squares)
    kept = squares.cumsum(0)
    return min(int((kept < energy * kept[-1]).sum()) + 1, len(squares))


def svd_factors(
    weight: Float[Tensor, "outputs inputs"], *, rank: int
) -> tuple[Float[Tensor, "rank inputs"], Float[Tensor, "outputs rank"]]:
    r"""The two factors of a matrix's best approximation of a rank, each with half of the singular values.

    .. math:: W \approx L F, \quad F = S_r^{1/2} V_r^T, \quad L = U_r S_r^{1/2}

    Args:
        weight: W.
        rank: r, between 1 and the smaller side of W, where the product is W to rounding.

    Returns:
        F, what is applied first, and L, what is applied last, in the type of W and on its device.

    Example:
        >>> first, last = svd_factors(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), rank=1)
        >>> (last @ first).round(decimals=3)
        tensor([[2., 0.],
                [0., 0.]])

    References:
        Eckart, Young: The approximation of one matrix by another of lower rank, Psychometrika 1936. Singular values
        come from the Gram matrix in float64, which is exact enough for weights in float32 and much faster.
    """
    matrix = _precise(weight)
    if len(matrix) > matrix.shape[1]:
        last, first = svd_factors(weight.T, rank=rank)
        return first.T, last.T
    basis = _basis(matrix, rank)
    projected = basis.T @ matrix
    scale = torch.linalg.vector_norm(projected, dim=1).clamp(min=torch.finfo(matrix.dtype).tiny).sqrt()
    return _like(projected / scale[:, None], weight), _like(basis * scale, weight)


def tucker2_factors(
    weight: Float[Tensor, "outputs inputs *window"], *, ranks: tuple[int, int]
) -> tuple[
    Float[Tensor, "inner_inputs inputs"],
    Float[Tensor, "inner_outputs inner_inputs *window"],
    Float[Tensor, "outputs inner_outputs"],
]:
    r"""The factors of a convolution's weight: one for its inputs, a small convolution, one for its outputs.

    .. math:: W_{oi\cdot} \approx \sum_{ab} L_{oa} \, C_{ab\cdot} \, F_{bi}

    Truncated singular vectors of both modes (HOSVD), improved by one sweep of higher-order orthogonal iteration: it
    never makes the error larger, and more sweeps add little.

    Args:
        weight: W, of a convolution in any number of dimensions.
        ranks: of the outputs and of the inputs; where both are full, the product is W to rounding.

    Returns:
        F, C and L, in the type of W and on its device. F has orthonormal rows, L orthonormal columns, so that
        :math:`\|C\|^2 / \|W\|^2` is the share that is kept. One of full rank is the identity.

    Example:
        >>> first, core, last = tucker2_factors(torch.ones(4, 6, 3, 3), ranks=(1, 1))
        >>> first.shape, core.shape, last.shape, bool(torch.isclose(core.square().sum(), torch.tensor(216.0)))
        (torch.Size([1, 6]), torch.Size([1, 1, 3, 3]), torch.Size([4, 1]), True)

    References:
        Kim, Park, Yoo, Choi, Yang, Shin: Compression of Deep Convolutional Neural Networks for Fast and Low Power
        Mobile Applications, ICLR 2016 (arXiv:1511.06530), section 3.2. De Lathauwer, De Moor, Vandewalle: On the Best
        Rank-1 and Rank-(R1, ..., RN) Approximation of Higher-Order Tensors, SIAM J. Matrix Anal. Appl. 2000.
    """
    tensor = _precise(weight)
    first = _basis_or_identity(_rows(tensor, 1), ranks[1])
    last = _basis_or_identity(_rows(_along(tensor, first, 1), 0), ranks[0])
    first = _basis_or_identity(_rows(_along(tensor, last, 0), 1), ranks[1])
    core = _along(_along(tensor, last, 0), first, 1)
    return _like(first.T, weight), _like(core, weight), _like(last, weight)


def _precise(weight: Tensor) -> Tensor:
    return weight.detach().to("cpu", torch.float64)


def _like(factor: Tensor, weight: Tensor) -> Tensor:
    return factor.to(weight.device, weight.dtype).contiguous()


def _rows(weight: Tensor, mode: int) -> Tensor:
    return weight.movedim(mode, 0).flatten(1)


def _basis(matrix: Tensor, rank: int) -> Tensor:
    """The left singular vectors of the ``rank`` largest singular values, as columns, the largest first."""
    return torch.linalg.eigh(matrix @ matrix.T)[1][:, -rank:].flip(1)


def _basis_or_identity(matrix: Tensor, rank: int) -> Tensor:
    return torch.eye(rank, dtype=matrix.dtype) if rank == len(matrix) else _basis(matrix, rank)


def _along(weight: Tensor, basis: Tensor, mode: int) -> Tensor:
    """The weight with one dimension replaced by its components in a basis of columns."""
    return torch.tensordot(weight.movedim(mode, -1), basis, dims=1).movedim(-1, mode)
