import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from understudy.functional import pearson_correlation, spearman_correlation

series = st.lists(st.integers(-5, 5), min_size=3, max_size=12)


def both(first, second):
    return torch.tensor(first, dtype=torch.float32), torch.tensor(second, dtype=torch.float32)


@given(series, st.integers(0, 1000))
def test_they_are_those_of_scipy(first, seed) -> None:
    second = torch.randint(-3, 4, (len(first),), generator=torch.Generator().manual_seed(seed)).tolist()
    constant = len(set(first)) == 1 or len(set(second)) == 1
    for ours, theirs in ((pearson_correlation, stats.pearsonr), (spearman_correlation, stats.spearmanr)):
        expected = 0.0 if constant else theirs(first, second).statistic
        assert ours(*both(first, second)).item() == pytest.approx(expected, abs=1e-12)


def test_a_constant_is_related_to_nothing() -> None:
    changing = torch.arange(5.0)
    for constant in (torch.full((5,), 0.1), torch.zeros(5), torch.full((5,), 1e6 + 0.1)):
        assert pearson_correlation(constant, changing) == 0.0
        assert spearman_correlation(changing, constant) == 0.0


def test_several_series_have_a_correlation_each() -> None:
    first = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    assert pearson_correlation(first, torch.arange(3.0).expand(2, 3)).tolist() == pytest.approx([1.0, -1.0])


def test_only_the_order_counts_for_ranks() -> None:
    values = torch.rand(20)
    assert spearman_correlation(values, values.exp()) == pytest.approx(1.0)
    assert pearson_correlation(values, (9 * values).exp()) < 0.99
    assert not math.isnan(float(spearman_correlation(values, -values)))
