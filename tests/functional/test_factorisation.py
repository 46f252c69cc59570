"""Products of smaller weights: what they keep, and that full ranks lose nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from understudy.functional import mode_spectrum, rank_for_energy, svd_factors, tucker2_factors

sizes = st.integers(1, 6)
energies = st.floats(0.05, 1.0)


def weight_of(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def product(factors: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    first, core, last = factors
    return torch.einsum("oa,ab...,bi->oi...", last, core, first)


def lost(weight: Tensor, approximation: Tensor) -> float:
    return float((weight - approximation).square().sum() / weight.square().sum())


@given(sizes, sizes)
def test_the_full_rank_gives_the_matrix_back(outputs, inputs) -> None:
    weight = weight_of(outputs, inputs)
    first, last = svd_factors(weight, rank=min(outputs, inputs))
    torch.testing.assert_close(last @ first, weight)


@given(sizes, sizes, st.lists(st.integers(1, 3), max_size=3))
def test_full_ranks_give_the_convolution_back(outputs, inputs, window) -> None:
    weight = weight_of(outputs, inputs, *window)
    first, core, last = tucker2_factors(weight, ranks=(outputs, inputs))
    torch.testing.assert_close(core, weight)
    assert torch.equal(first, torch.eye(inputs, dtype=weight.dtype))
    assert torch.equal(last, torch.eye(outputs, dtype=weight.dtype))


@given(sizes, sizes, energies)
def test_a_matrix_keeps_the_energy_and_one_rank_less_does_not(outputs, inputs, energy) -> None:
    weight = weight_of(outputs, inputs)
    squares = mode_spectrum(weight, mode=0 if outputs <= inputs else 1)
    rank = rank_for_energy(squares, energy=energy)
    first, last = svd_factors(weight, rank=rank)
    assert lost(weight, last @ first) <= 1.0 - energy + 1e-9
    if rank > 1:
        first, last = svd_factors(weight, rank=rank - 1)
        assert lost(weight, last @ first) > 1.0 - energy - 1e-9


@given(sizes, sizes, st.integers(1, 3), energies)
def test_two_truncated_modes_lose_no_more_than_the_sum(outputs, inputs, window, energy) -> None:
    weight = weight_of(outputs, inputs, window, window)
    ranks = [rank_for_energy(mode_spectrum(weight, mode=mode), energy=energy) for mode in (0, 1)]
    factors = tucker2_factors(weight, ranks=(ranks[0], ranks[1]))
    assert lost(weight, product(factors)) <= 2 * (1.0 - energy) + 1e-9
    kept = factors[1].square().sum() / weight.square().sum()
    assert float(kept) == pytest.approx(1.0 - lost(weight, product(factors)), abs=1e-9)


def test_against_the_library_and_better_than_truncation_alone() -> None:
    weight = weight_of(12, 10)
    left, values, right = torch.linalg.svd(weight)
    first, last = svd_factors(weight, rank=4)
    torch.testing.assert_close(last @ first, (left[:, :4] * values[:4]) @ right[:4])
    torch.testing.assert_close(first.norm(dim=1), last.norm(dim=0))  # both have half of the singular values
    tensor = weight_of(12, 10, 3, 3)
    bases = [torch.linalg.svd(tensor.movedim(mode, 0).flatten(1))[0][:, :3] for mode in (0, 1)]
    truncated = torch.einsum("oikl,oa,ib->abkl", tensor, *bases)
    _, core, _ = tucker2_factors(tensor, ranks=(3, 3))
    assert core.square().sum() > 1.01 * truncated.square().sum()


def test_the_type_stays_and_weights_without_anything_in_them_too() -> None:
    for weight in (torch.zeros(4, 5), torch.randn(4, 5, dtype=torch.bfloat16)):
        first, last = svd_factors(weight, rank=2)
        assert first.dtype == last.dtype == weight.dtype
        assert (last @ first).isfinite().all()
    assert rank_for_energy(mode_spectrum(torch.zeros(4, 5), mode=0), energy=0.9) == 1
