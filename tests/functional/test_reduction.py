import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from understudy.functional import masked_mean


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.booleans()), min_size=1, max_size=20))
def test_is_the_mean_of_what_counts(pairs) -> None:
    values = torch.tensor([value for value, _ in pairs], dtype=torch.float64)
    mask = torch.tensor([counts for _, counts in pairs])
    kept = [value for value, counts in pairs if counts]
    expected = sum(kept) / len(kept) if kept else 0.0
    assert masked_mean(values, mask=mask).item() == pytest.approx(expected, rel=1e-9, abs=1e-6)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_the_mean_of_the_parts_is_the_mean_of_the_whole(counts) -> None:
    """Micro-batches of uneven size, some of them empty, each divided by the average count."""
    values = torch.arange(1.0, 1.0 + sum(counts)).double()
    total = torch.tensor(sum(counts) / len(counts), dtype=torch.float64)
    parts = [masked_mean(part, total=total) for part in values.split(counts)]
    whole = masked_mean(values)
    torch.testing.assert_close(torch.stack(parts).mean(), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mask", [None, torch.zeros(0, dtype=torch.bool)])
def test_nothing_at_all_gives_a_connected_zero(mask) -> None:
    values = torch.zeros(0, requires_grad=True)
    loss = masked_mean(values, mask=mask)
    loss.backward()
    assert loss.item() == 0.0


def test_a_value_that_does_not_count_may_be_anything() -> None:
    values = torch.tensor([1.0, float("nan"), float("inf")])
    assert masked_mean(values, mask=torch.tensor([True, False, False])) == 1.0
