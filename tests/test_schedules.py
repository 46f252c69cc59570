import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from understudy import Cosine, InputError, Linear, OneCycle, StepSchedule
from understudy.schedules import AnySchedule, value_at

fractions = st.floats(0.0, 1.0)
amounts = st.floats(0.0, 100.0)
schedules = st.one_of(
    st.builds(Linear, start=amounts, end=amounts, begin=st.floats(0.0, 0.4), finish=st.floats(0.5, 1.0)),
    st.builds(Cosine, start=amounts, end=amounts, begin=st.floats(0.0, 0.4), finish=st.floats(0.5, 1.0)),
    st.builds(StepSchedule, start=amounts, factor=st.floats(0.0, 2.0), at_progress=st.lists(fractions, max_size=3)),
    st.builds(OneCycle, start=amounts, peak=amounts, end=amounts, peak_at=fractions),
)


@given(schedules, fractions, amounts)
def test_scaling_scales_every_value(schedule, progress, factor) -> None:
    assert schedule.scaled(factor).at(progress) == pytest.approx(factor * schedule.at(progress), rel=1e-9, abs=1e-9)


@given(schedules)
def test_survives_a_recipe(schedule) -> None:
    assert TypeAdapter(AnySchedule).validate_json(schedule.model_dump_json()) == schedule


@given(st.sampled_from([Linear, Cosine]), amounts, amounts, fractions)
def test_a_ramp_stays_between_its_ends_and_goes_one_way(kind, start, end, progress) -> None:
    schedule = kind(start=start, end=end, begin=0.25, finish=0.75)
    low, high = sorted((start, end))
    assert low - 1e-9 <= schedule.at(progress) <= high + 1e-9
    assert schedule.at(0.25) == pytest.approx(start)
    assert schedule.at(0.75) == pytest.approx(end)
    assert abs(schedule.at(min(progress + 0.1, 1.0)) - start) >= abs(schedule.at(progress) - start) - 1e-9


def test_a_ramp_of_no_length_is_a_jump() -> None:
    jump = Linear(start=1.0, end=0.0, begin=0.5, finish=0.5)
    assert [jump.at(p) for p in (0.0, 0.49, 0.5, 1.0)] == [1.0, 1.0, 0.0, 0.0]


def test_cosine_follows_its_formula() -> None:
    """Loshchilov, Hutter 2017, eq. 5, written out."""
    for step in range(11):
        expected = 0.1 + 0.5 * (2.0 - 0.1) * (1.0 + math.cos(math.pi * step / 10))
        assert Cosine(start=2.0, end=0.1).at(step / 10) == pytest.approx(expected)


def test_step_multiplies_at_each_point() -> None:
    schedule = StepSchedule(start=2.0, factor=0.5, at_progress=(0.25, 0.75))
    assert [schedule.at(p) for p in (0.0, 0.25, 0.74, 0.75, 1.0)] == [2.0, 1.0, 1.0, 0.5, 0.5]


@pytest.mark.parametrize("peak_at", [0.0, 0.3, 1.0])
def test_one_cycle_peaks_where_it_says(peak_at: float) -> None:
    schedule = OneCycle(start=0.1, peak=2.0, end=0.0, peak_at=peak_at)
    if 0.0 < peak_at < 1.0:
        assert schedule.at(0.0) == pytest.approx(0.1)
        assert schedule.at(1.0) == pytest.approx(0.0)
        assert schedule.at(peak_at / 2) == pytest.approx((0.1 + 2.0) / 2)
    assert max(schedule.at(step / 1000) for step in range(1001)) == pytest.approx(2.0, rel=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "linear", "start": 0.0, "end": 1.0, "begin": 0.6, "finish": 0.4},
        {"kind": "linear", "start": -1.0, "end": 1.0},
        {"kind": "cosine", "end": -0.1},
        {"kind": "step", "at_progress": [1.5]},
        {"kind": "one_cycle", "peak": float("nan")},
        {"kind": "sawtooth"},
    ],
)
def test_impossible_schedules_are_refused(wrong) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(AnySchedule).validate_python(wrong)


def test_a_scheduled_weight_needs_the_progress() -> None:
    assert value_at(0.5, None) == 0.5
    assert value_at(Linear(start=0.0, end=2.0), 0.5) == 1.0
    with pytest.raises(InputError, match=r"linear.*progress=step / total_steps"):
        value_at(Linear(start=0.0, end=2.0), None)
