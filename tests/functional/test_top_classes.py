"""Classes taken together: against definitions written as loops over float64 numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from understudy.functional import (
    jensen_shannon_loss,
    kl_divergence,
    merged_logits,
    reverse_kl_loss,
    soft_target_loss,
    tail_logit,
    total_variation_loss,
)
from understudy.functional.top_classes import spread_logits

seeds = st.integers(0, 2**31 - 1)
temperatures = st.floats(0.25, 50.0)
LOSSES = [soft_target_loss, reverse_kl_loss, jensen_shannon_loss, total_variation_loss]


def drawn(seed: int, *shape: int, keep: int = 2, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    """Float64 logits, and some classes of each position in no order."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(*shape, generator=generator, dtype=torch.float64)
    return logits, torch.rand(shape, generator=generator).argsort(-1)[..., :keep]


def probabilities(logits: list[float], temperature: float) -> list[float]:
    greatest = max(logits)
    powers = [math.exp((logit - greatest) / temperature) for logit in logits]
    return [power / math.fsum(powers) for power in powers]


def gathered(each: list[float], kept: list[int]) -> list[float]:
    """Probabilities of the kept classes, and the sum of all others."""
    rest = [value for number, value in enumerate(each) if number not in kept]
    return [each[number] for number in kept] + [math.fsum(rest)]


@given(seeds, st.integers(2, 9), st.data(), temperatures)
def test_merged_probabilities_are_the_sums_of_the_classes(seed, classes, data, temperature) -> None:
    logits, kept = drawn(seed, 3, classes, keep=data.draw(st.integers(1, classes - 1)))
    merged = merged_logits(logits, kept, temperature=temperature)
    assert merged.shape == (3, kept.shape[-1] + 1)
    assert torch.equal(merged[:, :-1], logits.gather(-1, kept))
    assert torch.equal(merged[:, -1], tail_logit(logits, kept, temperature=temperature))
    for row, chosen, found in zip(logits.tolist(), kept.tolist(), merged.tolist(), strict=True):
        expected = gathered(probabilities(row, temperature), chosen)
        assert probabilities(found, temperature) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@given(seeds, temperatures)
def test_the_gradient_of_the_tail_is_how_likely_each_class_is_among_the_rest(seed, temperature) -> None:
    logits, kept = drawn(seed, 4, 7)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(tail_logit(logits, kept, temperature=temperature).sum(), logits)
    for row, chosen, found in zip(logits.tolist(), kept.tolist(), gradient.tolist(), strict=True):
        others = [number for number in range(7) if number not in chosen]
        expected = [0.0] * 7
        for number, share in zip(others, probabilities([row[each] for each in others], temperature), strict=True):
            expected[number] = share
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert torch.autograd.gradcheck(lambda z: merged_logits(z, kept, temperature=temperature), logits)


@given(seeds, st.integers(1, 7), temperatures)
def test_spread_logits_keep_what_is_known_and_share_the_rest_equally(seed, keep, temperature) -> None:
    logits, kept = drawn(seed, 3, 8, keep=keep)
    dense = spread_logits(logits.gather(-1, kept), kept, tail_logit(logits, kept), classes=8)
    for row, chosen, found in zip(logits.tolist(), kept.tolist(), dense.tolist(), strict=True):
        before, after = probabilities(row, 1.0), probabilities(found, 1.0)
        assert gathered(after, chosen) == pytest.approx(gathered(before, chosen), rel=1e-9)
        rest = [after[number] for number in range(8) if number not in chosen]
        assert rest == pytest.approx([rest[0]] * len(rest), rel=1e-12)
    again = merged_logits(dense, kept, temperature=1.0)
    torch.testing.assert_close(again, merged_logits(logits, kept, temperature=1.0))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
@given(seed=seeds, keep=st.integers(1, 7), temperature=temperatures)
def test_merging_both_alike_never_makes_a_divergence_greater(loss, seed, keep, temperature) -> None:
    options = {} if loss is total_variation_loss else {"temperature": temperature}
    at = options.get("temperature", 1.0)
    student, kept = drawn(seed, 4, 8, keep=keep)
    teacher, _ = drawn(seed + 1, 4, 8)
    merged = loss(*(merged_logits(side, kept, temperature=at) for side in (student, teacher)), **options)
    assert merged <= loss(student, teacher, **options) * (1 + 1e-9) + 1e-15
    same = torch.log_softmax(student / at, -1).gather(-1, kept)  # the kept classes and the tail are equally likely
    other = spread_logits(same, kept, tail_logit(student / at, kept) - (student / at).logsumexp(-1), classes=8) * at
    equal = loss(*(merged_logits(side, kept, temperature=at) for side in (student, other)), **options)
    assert abs(equal) < 1e-12 * max(1.0, at**2)


def test_with_one_class_left_over_nothing_is_lost() -> None:
    student, kept = drawn(0, 5, 6, keep=5)
    teacher, _ = drawn(1, 5, 6)
    merged = kl_divergence(
        *(merged_logits(side, kept, temperature=3.0) for side in (student, teacher)), temperature=3.0
    )
    torch.testing.assert_close(merged, kl_divergence(student, teacher, temperature=3.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_comes_out_in_single(dtype: torch.dtype) -> None:
    logits = (0.25 * torch.arange(24).reshape(2, 3, 4) % 5).to(dtype)  # exact in both types
    kept = torch.tensor([0, 3]).expand(2, 3, 2)
    merged = merged_logits(logits, kept, temperature=2.0)
    assert merged.dtype == torch.float32
    torch.testing.assert_close(merged, merged_logits(logits.double(), kept, temperature=2.0).float())
    dense = spread_logits(merged[..., :-1].to(dtype), kept, merged[..., -1].to(dtype), classes=4)
    assert dense.dtype == torch.float32
    many = torch.zeros(1, 60_000, dtype=dtype)  # a sum beyond float16, and below the steps of bfloat16
    assert tail_logit(many, torch.tensor([[7]])).item() == pytest.approx(math.log(59_999), rel=1e-6)


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_extreme_logits_stay_finite(size: float) -> None:
    logits = torch.tensor([[size, -size, 0.0], [-size, -size, -size], [size, size, size]], requires_grad=True)
    for kept in ([[0], [0], [0]], [[1], [1], [1]]):
        merged = merged_logits(logits, torch.tensor(kept), temperature=4.0)
        (gradient,) = torch.autograd.grad(merged.sum(), logits)
        assert merged.isfinite().all()
        assert gradient.isfinite().all()
    assert tail_logit(logits, torch.tensor([[1], [1], [1]])).tolist() == pytest.approx([size, -size, size], rel=1e-3)


def test_positions_of_any_shape_and_none() -> None:
    logits, kept = drawn(0, 2, 3, 4, 6)
    merged = merged_logits(logits, kept, temperature=2.0)
    assert merged.shape == (2, 3, 4, 3)
    torch.testing.assert_close(merged[1, 2, 3], merged_logits(logits[1, 2, 3], kept[1, 2, 3], temperature=2.0))
    assert merged_logits(torch.zeros(0, 6), torch.zeros(0, 2, dtype=torch.int64)).shape == (0, 3)


def test_what_does_not_fit_together_is_caught_by_its_shape() -> None:
    with pytest.raises(Exception, match="kept"):
        tail_logit(torch.zeros(2, 3), torch.zeros(3, 1, dtype=torch.int64))
    with pytest.raises(Exception, match="kept"):
        tail_logit(torch.zeros(2, 3), torch.zeros(2, 1))
