import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from understudy.functional import contrastive_loss

seeds = st.integers(0, 2**31 - 1)
temperatures = st.floats(0.05, 2.0)


def directions(seed: int, count: int, channels: int = 16) -> Tensor:
    rows = torch.randn(count, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return rows / rows.norm(dim=1, keepdim=True)


@given(seeds, temperatures)
def test_is_positive_and_the_same_with_the_sides_exchanged(seed, temperature) -> None:
    student, teacher, own, other = (directions(seed + part, 6) for part in range(4))
    value = contrastive_loss(student, teacher, student_memory=own, teacher_memory=other, temperature=temperature)
    swapped = contrastive_loss(teacher, student, student_memory=other, teacher_memory=own, temperature=temperature)
    assert value > 0.0
    torch.testing.assert_close(value, swapped)


@given(seeds)
def test_equal_embeddings_are_better_than_those_of_other_samples(seed) -> None:
    student, own, other = directions(seed, 6), directions(seed + 1, 50), directions(seed + 2, 50)
    together = contrastive_loss(student, student, student_memory=own, teacher_memory=other)
    apart = contrastive_loss(student, student.roll(1, 0), student_memory=own, teacher_memory=other)
    assert together < apart


@pytest.mark.parametrize(("channels", "temperature"), [(16, 0.5), (128, 0.2), (128, 0.07)])
def test_the_constant_is_the_mean_over_random_directions(channels, temperature) -> None:
    scores = (directions(0, 4000, channels) @ directions(1, 4000, channels).T / temperature).exp()
    expected = math.exp(1 / (2 * channels * temperature**2))
    torch.testing.assert_close(scores.mean().item(), expected, rtol=0.03, atol=0.0)


@pytest.mark.parametrize("negatives", [50, 500, 5000])
def test_random_embeddings_have_about_the_stated_value(negatives) -> None:
    student, teacher, own, other = (directions(part, 300 if part < 2 else negatives, 128) for part in range(4))
    value = contrastive_loss(student, teacher, student_memory=own, teacher_memory=other, temperature=0.2)
    z = math.exp(1 / (2 * 128 * 0.2**2))
    torch.testing.assert_close(value.item(), 2 * (1 + math.log(negatives * z)), rtol=0.1, atol=0.0)


def test_the_memories_are_constants_and_autocast_changes_nothing() -> None:
    student, teacher, own, other = (directions(part, 6).float().requires_grad_() for part in range(4))
    value = contrastive_loss(student, teacher, student_memory=own, teacher_memory=other)
    value.backward()
    assert own.grad is None
    assert other.grad is None
    assert student.grad.abs().sum() > 0.0
    assert teacher.grad.abs().sum() > 0.0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = contrastive_loss(student, teacher, student_memory=own, teacher_memory=other)
    torch.testing.assert_close(low, value)
