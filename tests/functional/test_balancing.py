import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from understudy.functional import gradient_norm_weights

positive = st.floats(1e-3, 1e3)
terms = st.lists(st.tuples(positive, positive), min_size=2, max_size=5)


def tensors(pairs: list[tuple[float, float]]) -> tuple[torch.Tensor, torch.Tensor]:
    norms, rates = zip(*pairs, strict=True)
    return torch.tensor(norms, dtype=torch.float64), torch.tensor(rates, dtype=torch.float64)


@given(terms, st.floats(0.0, 3.0))
def test_every_weighted_norm_is_the_papers_target_up_to_one_factor(pairs, alpha) -> None:
    norms, rates = tensors(pairs)
    weights = gradient_norm_weights(norms, rates, alpha=alpha)
    assert weights.sum() == pytest.approx(len(pairs))
    lengths = [float(weight) * norm for weight, (norm, _) in zip(weights, pairs, strict=True)]
    mean_rate = sum(rate for _, rate in pairs) / len(pairs)
    mean_length = sum(lengths) / len(lengths)
    factors = []
    for length, (_, rate) in zip(lengths, pairs, strict=True):
        factors.append(length / (mean_length * (rate / mean_rate) ** alpha))
    assert factors == pytest.approx([factors[0]] * len(factors), rel=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_it_is_where_the_papers_own_descent_ends(alpha) -> None:
    """Algorithm 1 with loops: descent on the L1 distance to constant targets, then the sum is made T again."""
    norms, rates, descent = [2.0, 0.5, 1.0], [1.0, 0.8, 0.3], 1e-4
    weights = [1.0, 1.0, 1.0]
    mean_rate = sum(rates) / 3
    for _ in range(40_000):
        lengths = [weight * norm for weight, norm in zip(weights, norms, strict=True)]
        mean = sum(lengths) / 3
        for i in range(3):
            error = lengths[i] - mean * (rates[i] / mean_rate) ** alpha
            weights[i] -= descent * math.copysign(norms[i], error)
        total = sum(weights)
        weights = [3 * weight / total for weight in weights]
    found = gradient_norm_weights(torch.tensor(norms), torch.tensor(rates), alpha=alpha)
    assert found.tolist() == pytest.approx(weights, abs=0.02)


@given(terms, st.floats(0.0, 3.0))
def test_only_ratios_count(pairs, alpha) -> None:
    norms, rates = tensors(pairs)
    weights = gradient_norm_weights(norms, rates, alpha=alpha)
    torch.testing.assert_close(gradient_norm_weights(1e3 * norms, rates, alpha=alpha), weights)
    torch.testing.assert_close(gradient_norm_weights(norms, 1e-3 * rates, alpha=alpha), weights)


@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_what_says_nothing_counts_one_and_the_others_share_the_rest(alpha) -> None:
    ones = torch.ones(3)
    assert gradient_norm_weights(torch.zeros(3), ones, alpha=alpha).tolist() == [1.0, 1.0, 1.0]
    assert gradient_norm_weights(torch.tensor([0.0, 1.0, 3.0]), ones, alpha=alpha).tolist() == pytest.approx(
        [1.0, 1.5, 0.5]
    )


@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_solved_terms_and_extreme_norms_stay_finite(alpha) -> None:
    for norms, rates in (([1.0, 1.0], [0.0, 0.0]), ([1e-38, 1e38], [1.0, 1.0]), ([1.0, 1e-30], [1.0, 0.0])):
        weights = gradient_norm_weights(torch.tensor(norms), torch.tensor(rates), alpha=alpha)
        assert weights.isfinite().all()
        assert weights.sum() == pytest.approx(2.0)
