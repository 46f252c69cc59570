import torch
from hypothesis import given
from hypothesis import strategies as st

from understudy.functional import conditional_target_loss, cross_entropy_loss, soft_target_loss

seeds = st.integers(0, 2**31 - 1)
classes = st.integers(2, 7)
temperatures = st.floats(0.25, 50.0)
confidences = st.floats(0.0, 1.0)


def sample(seed: int, count: int, classes: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3.0 * torch.randn(count, classes, generator=generator).double() for _ in range(2))
    targets = torch.randint(-1, classes, (count,), generator=generator)
    return student, teacher, targets.masked_fill(targets < 0, -100)


@given(seeds, classes, temperatures, confidences)
def test_is_the_sum_of_its_three_parts(seed, classes, temperature, confidence) -> None:
    student, teacher, targets = sample(seed, 9, classes)
    sure = (targets == -100) & (teacher.softmax(-1).amax(-1) >= confidence)
    followed = sure | (targets == teacher.argmax(-1))
    corrected = (targets != -100) & ~followed
    value = conditional_target_loss(student, teacher, targets=targets, temperature=temperature, confidence=confidence)
    soft = soft_target_loss(student, teacher, temperature=temperature, mask=followed) * followed.sum()
    hard = cross_entropy_loss(student, targets.masked_fill(~corrected, -100)) * corrected.sum()
    torch.testing.assert_close(9 * value, soft + hard)


@given(seeds, classes, temperatures, confidences)
def test_falls_with_the_confidence_that_is_asked_for_and_is_never_negative(seed, classes, temperature, confidence):
    student, teacher, targets = sample(seed, 9, classes)
    asked, anyone = (
        conditional_target_loss(student, teacher, targets=targets, temperature=temperature, confidence=least)
        for least in (confidence, 0.0)
    )
    assert -1e-14 < asked <= anyone + 1e-14


@given(seeds, classes)
def test_masking_equals_slicing(seed, classes) -> None:
    student, teacher, targets = sample(seed, 9, classes)
    mask = torch.rand(9, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[0] = True
    masked = conditional_target_loss(student, teacher, targets=targets, confidence=0.6, mask=mask)
    sliced = conditional_target_loss(student[mask], teacher[mask], targets=targets[mask], confidence=0.6)
    torch.testing.assert_close(masked, sliced, rtol=1e-12, atol=1e-14)
