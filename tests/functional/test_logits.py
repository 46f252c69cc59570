import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from understudy.functional import cross_entropy_loss

seeds = st.integers(0, 2**31 - 1)
fractions = st.floats(0.0, 1.0)


def labelled(seed: int, count: int = 6, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator).double()
    return logits, torch.randint(classes, (count,), generator=generator)


@given(seeds, fractions, st.floats(-50.0, 50.0))
def test_a_constant_on_all_logits_changes_nothing(seed, smoothing, shift) -> None:
    logits, targets = labelled(seed)
    values = [cross_entropy_loss(z, targets, label_smoothing=smoothing) for z in (logits, logits + shift)]
    torch.testing.assert_close(*values, rtol=1e-9, atol=1e-10)


@given(seeds, fractions)
def test_is_never_below_the_entropy_of_the_smoothed_target(seed, smoothing) -> None:
    logits, targets = labelled(seed)
    q = (1 - smoothing) * F.one_hot(targets, 4).double() + smoothing / 4
    entropy = -torch.xlogy(q, q).sum(-1).mean()
    assert cross_entropy_loss(logits, targets, label_smoothing=smoothing) >= entropy - 1e-12


@given(seeds, fractions)
def test_unlabelled_positions_count_for_nothing(seed, smoothing) -> None:
    logits, targets = labelled(seed)
    targets[::2] = -100
    partly = cross_entropy_loss(logits, targets, label_smoothing=smoothing)
    rest = cross_entropy_loss(logits[1::2], targets[1::2], label_smoothing=smoothing)
    torch.testing.assert_close(partly, rest, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("total", [0.5, 1.0, 3.0])
def test_an_average_count_below_one_is_not_taken_for_one(total: float) -> None:
    logits, targets = labelled(0, count=1)
    alone = cross_entropy_loss(logits, targets)
    torch.testing.assert_close(cross_entropy_loss(logits, targets, total=torch.tensor(total).double()), alone / total)
