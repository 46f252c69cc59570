import math

import numpy as np
import pytest
from scipy import stats

from understudy.report.statistics import difference, t_quantile


def test_t_quantiles_are_those_of_the_tables():
    assert t_quantile(2) == pytest.approx(4.3027, abs=1e-4)
    assert t_quantile(4) == pytest.approx(2.7764, abs=1e-4)


def test_paired_interval_by_hand():
    found = difference({0: 0.95, 1: 0.96, 2: 0.97}, {0: 0.93, 1: 0.95, 2: 0.94})
    # differences 0.02, 0.01, 0.03: mean 0.02, standard deviation 0.01, half-width 4.3027 * 0.01 / sqrt(3)
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert found.paired
    assert found.seeds == (0, 1, 2)
    assert found.mean == pytest.approx(0.02)
    assert found.interval == pytest.approx((0.02 - half, 0.02 + half), abs=1e-8)


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_paired_interval_is_that_of_the_t_test(count):
    generator = np.random.default_rng(count)
    first = generator.uniform(0.8, 0.9, count)
    second = first + generator.normal(0.01, 0.02, count)
    found = difference(dict(enumerate(first)), dict(enumerate(second)))
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high), rel=1e-6)


def test_noise_of_floats_is_no_gain():
    found = difference(dict.fromkeys(range(3), 0.1 + 0.2), dict.fromkeys(range(3), 0.3))
    assert found.mean == 0.0
    assert found.interval == (0.0, 0.0)


def test_without_common_seeds_it_is_the_interval_of_welch():
    first, second = {0: 0.9, 1: 0.92, 2: 0.97}, {3: 0.8, 4: 0.83}
    found = difference(first, second)
    expected = stats.ttest_ind(list(first.values()), list(second.values()), equal_var=False).confidence_interval(0.95)
    assert not found.paired
    assert found.interval == pytest.approx((expected.low, expected.high), rel=1e-6)


def test_only_common_seeds_are_paired():
    found = difference({0: 1.0, 1: 0.5, 2: 0.9}, {1: 0.4, 2: 0.7, 7: 0.0})
    assert found.seeds == (1, 2)
    assert found.mean == pytest.approx(0.15)


def test_one_seed_gives_no_interval():
    assert difference({0: 0.9}, {0: 0.8}).interval is None
    assert difference({0: 0.9}, {1: 0.8}).interval is None


def test_nothing_to_compare():
    assert difference({}, {0: 1.0}) is None
