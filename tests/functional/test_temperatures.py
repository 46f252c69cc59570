import torch
from hypothesis import given
from hypothesis import strategies as st

from understudy.functional import dynamic_temperature_loss, soft_target_loss

seeds = st.integers(0, 2**31 - 1)
classes = st.integers(2, 7)
temperatures = st.floats(0.25, 50.0)


def pair(seed: int, count: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3.0 * torch.randn(count, classes, generator=generator).double() for _ in range(2))
    return student, teacher


def with_largest(logits: torch.Tensor, largest: float) -> torch.Tensor:
    """The same up to a constant per position."""
    return logits - logits.amax(-1, keepdim=True) + largest


@given(seeds, classes, temperatures)
def test_equally_large_logits_have_the_mean_temperature(seed, classes, temperature) -> None:
    student, teacher = (with_largest(logits, 5.0) for logits in pair(seed, 4, classes))
    value = dynamic_temperature_loss(student, teacher, temperature=temperature)
    torch.testing.assert_close(value, soft_target_loss(student, teacher, temperature=temperature))


@given(seeds, classes, temperatures, st.floats(0.1, 10.0))
def test_a_surer_student_is_softened_until_only_the_direction_counts(seed, classes, temperature, factor) -> None:
    student, teacher = (with_largest(logits, 5.0) for logits in pair(seed, 1, classes))
    product = 4 * factor / (1 + factor) ** 2  # of both temperatures, by the square of their mean
    both = [dynamic_temperature_loss(factor * student, teacher, temperature=temperature)]
    softened = temperature * 2 / (1 + factor)
    both.append(product * temperature**2 / softened**2 * soft_target_loss(student, teacher, temperature=softened))
    torch.testing.assert_close(*both, rtol=1e-8, atol=1e-12)


@given(seeds, classes, temperatures)
def test_is_never_negative_and_zero_at_equality(seed, classes, temperature) -> None:
    student, teacher = pair(seed, 5, classes)
    assert dynamic_temperature_loss(student, teacher, temperature=temperature) > -1e-14
    assert dynamic_temperature_loss(teacher, teacher, temperature=temperature).abs() < 1e-12


@given(seeds, classes, temperatures)
def test_masking_equals_slicing(seed, classes, temperature) -> None:
    student, teacher = pair(seed, 8, classes)
    mask = torch.rand(8, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[0] = True
    masked = dynamic_temperature_loss(student, teacher, temperature=temperature, mask=mask)
    sliced = dynamic_temperature_loss(student[mask], teacher[mask], temperature=temperature)
    torch.testing.assert_close(masked, sliced, rtol=1e-12, atol=1e-14)
