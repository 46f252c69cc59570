"""A teacher that was not worth it is said to be so."""

import pytest

from understudy.doctor import check_gain


def test_a_clear_gain_says_nothing():
    assert check_gain([0.96, 0.97, 0.965], [0.93, 0.94, 0.936]) == []
    assert check_gain(0.97, 0.90, samples=1000) == []
    assert check_gain(0.97, 0.969) == []


def test_terms_that_hurt_over_seeds():
    (finding,) = check_gain([0.90, 0.91, 0.905], [0.95, 0.955, 0.958], terms=("soft_targets", "hint"))
    assert finding.severity == "warning"
    assert "(soft_targets, hint) hurt" in finding.message
    # differences -0.05, -0.045, -0.053: mean -0.04933, s/sqrt(3) = 0.002333, t(2) = 4.3027
    assert "-0.0493 ± 0.0100 over 3 seeds" in finding.seen


def test_a_difference_within_the_noise_is_a_note():
    (finding,) = check_gain([0.95, 0.93, 0.96], [0.94, 0.95, 0.945])
    assert finding.severity == "note"
    (finding,) = check_gain([0.93, 0.94, 0.935], [0.94, 0.95, 0.93])
    assert finding.severity == "note"


def test_one_seed_is_judged_by_the_number_of_samples():
    (finding,) = check_gain(0.90, 0.95, samples=2000)
    assert finding.severity == "warning"
    (finding,) = check_gain(0.93, 0.95, samples=100)
    assert finding.severity == "note"


def test_no_difference_is_no_gain():
    (finding,) = check_gain(0.95, 0.95)
    assert finding.severity == "note"


def test_seeds_must_match():
    with pytest.raises(ValueError, match="zip"):
        check_gain([0.9, 0.9], [0.9])
