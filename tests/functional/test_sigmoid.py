import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from understudy.functional import sigmoid_target_loss, soft_target_loss

seeds = st.integers(0, 2**31 - 1)
classes = st.integers(1, 7)
temperatures = st.floats(0.25, 50.0)


def pair(seed: int, count: int, classes: int, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (scale * torch.randn(count, classes, generator=generator, dtype=torch.float64) for _ in range(2))
    return student, teacher


@given(seeds, classes, temperatures)
def test_is_positive_and_zero_at_equality_only(seed, classes, temperature) -> None:
    student, teacher = pair(seed, 5, classes)
    assert sigmoid_target_loss(student, teacher, temperature=temperature) > 0.0
    assert sigmoid_target_loss(teacher, teacher, temperature=temperature) == 0.0
    assert sigmoid_target_loss(teacher + 1.0, teacher, temperature=temperature) > 0.0


@given(seeds, classes, temperatures)
def test_is_the_sum_of_soft_targets_with_two_classes(seed, classes, temperature) -> None:
    """A softmax over (z, 0) is the sigmoid of z."""
    student, teacher = pair(seed, 5, classes)
    of_two = [
        soft_target_loss(
            *(torch.stack([side[:, k], torch.zeros(5, dtype=torch.float64)], -1) for side in (student, teacher)),
            temperature=temperature,
        )
        for k in range(classes)
    ]
    value = sigmoid_target_loss(student, teacher, temperature=temperature)
    torch.testing.assert_close(value, torch.stack(of_two).sum(), rtol=1e-9, atol=1e-11)


@given(seeds, classes, temperatures)
def test_yes_and_no_are_alike(seed, classes, temperature) -> None:
    student, teacher = pair(seed, 5, classes)
    signs = torch.tensor([(-1.0) ** k for k in range(classes)], dtype=torch.float64)
    value = sigmoid_target_loss(student, teacher, temperature=temperature)
    torch.testing.assert_close(sigmoid_target_loss(signs * student, signs * teacher, temperature=temperature), value)


@given(seeds, classes)
def test_a_high_temperature_gives_the_stated_quadratic_limit(seed, classes) -> None:
    student, teacher = pair(seed, 4, classes)
    limit = ((student - teacher).square().sum(-1) / 8).mean()
    value = sigmoid_target_loss(student, teacher, temperature=1e3)
    torch.testing.assert_close(value, limit, rtol=1e-2, atol=1e-4)


@given(seeds, classes, temperatures)
def test_masked_equals_the_unmasked_rest(seed, classes, temperature) -> None:
    student, teacher = pair(seed, 8, classes)
    mask = torch.rand(8, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[0] = True
    masked = sigmoid_target_loss(student, teacher, temperature=temperature, mask=mask)
    sliced = sigmoid_target_loss(student[mask], teacher[mask], temperature=temperature)
    torch.testing.assert_close(masked, sliced, rtol=1e-12, atol=1e-14)


def test_a_student_that_is_surely_wrong_still_learns() -> None:
    """Where clamped probabilities would have no gradient: temperature (sigma(s) - sigma(t)) / N."""
    student = torch.tensor([[1e6, -1e6]], requires_grad=True)
    loss = sigmoid_target_loss(student, -student, temperature=2.0)
    loss.backward()
    assert loss.item() == 2.0**2 * 2 * 1e6 / 2.0
    assert student.grad is not None
    assert torch.equal(student.grad, torch.tensor([[2.0, -2.0]]))
