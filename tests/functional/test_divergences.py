import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from understudy.functional import (
    jensen_shannon_loss,
    kl_divergence,
    logit_mse_loss,
    reverse_kl_loss,
    soft_target_loss,
    total_variation_loss,
)

seeds = st.integers(0, 2**31 - 1)
classes = st.integers(2, 7)
temperatures = st.floats(0.25, 50.0)


def pair(seed: int, count: int, classes: int, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (scale * torch.randn(count, classes, generator=generator).double() for _ in range(2))
    return student, teacher


@given(seeds, classes, temperatures, st.floats(-50.0, 50.0))
def test_a_constant_on_all_logits_changes_nothing(seed, classes, temperature, shift) -> None:
    student, teacher = pair(seed, 3, classes)
    shifts = shift * torch.arange(1.0, 4.0).double()[:, None]
    value = kl_divergence(student, teacher, temperature=temperature)
    for moved in ((student + shifts, teacher), (student, teacher + shifts), (student + shifts, teacher - shifts)):
        torch.testing.assert_close(kl_divergence(*moved, temperature=temperature), value, rtol=1e-9, atol=1e-11)


@given(seeds, classes, temperatures)
def test_is_never_negative_and_zero_at_equality(seed, classes, temperature) -> None:
    student, teacher = pair(seed, 5, classes)
    assert (kl_divergence(student, teacher, temperature=temperature) > -1e-14).all()
    assert (kl_divergence(teacher, teacher, temperature=temperature).abs() < 1e-14).all()
    assert not torch.equal(kl_divergence(student, teacher), torch.zeros(5).double())


@given(seeds, classes, temperatures)
def test_masked_equals_the_unmasked_rest(seed, classes, temperature) -> None:
    student, teacher = pair(seed, 8, classes)
    mask = torch.rand(8, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[0] = True
    masked = soft_target_loss(student, teacher, temperature=temperature, mask=mask)
    sliced = soft_target_loss(student[mask], teacher[mask], temperature=temperature)
    torch.testing.assert_close(masked, sliced, rtol=1e-12, atol=1e-14)


@given(seeds, classes)
def test_a_high_temperature_gives_the_stated_quadratic_limit(seed, classes) -> None:
    """1 / 2K times the squared distance of the centred logits, approached like 1 / temperature."""
    student, teacher = pair(seed, 4, classes)
    centred = student - student.mean(-1, keepdim=True), teacher - teacher.mean(-1, keepdim=True)
    limit = ((centred[0] - centred[1]).square().sum(-1) / (2 * classes)).mean()
    far, near = (soft_target_loss(student, teacher, temperature=t) for t in (1e3, 1e4))
    torch.testing.assert_close(near, limit, rtol=1e-2, atol=1e-4)
    assert (near - limit).abs() <= (far - limit).abs() + 1e-6


@given(seeds)
def test_a_low_temperature_looks_at_the_best_class_only(seed) -> None:
    """At temperature 0.01 the divergence is the gap by which the student's logits miss the teacher's class."""
    student, teacher = pair(seed, 4, 5)
    temperature = 1e-2
    best = teacher.argmax(-1)
    teacher[torch.arange(4), best] += 2.0
    gap = student.max(-1).values - student[torch.arange(4), best]
    value = temperature * kl_divergence(student, teacher, temperature=temperature)
    torch.testing.assert_close(value, gap, rtol=0.0, atol=temperature * 2)


def test_the_gradient_of_the_student_is_a_difference_of_probabilities() -> None:
    """Hinton et al. 2015, eq. 2, times the temperature squared: tau (softmax(z / tau) - softmax(v / tau)) / N."""
    student, teacher = pair(0, 4, 5)
    student.requires_grad_()
    soft_target_loss(student, teacher, temperature=3.0).backward()
    expected = 3.0 * ((student / 3.0).softmax(-1) - (teacher / 3.0).softmax(-1)) / 4
    torch.testing.assert_close(student.grad, expected.detach())


def test_is_the_convention_that_other_toolkits_of_the_first_kind_use() -> None:
    """T² · kl_div(log_softmax, softmax, batchmean), as RepDistiller and mdistiller write it."""
    student, teacher = pair(0, 32, 1000)
    theirs = 16 * torch.nn.functional.kl_div(
        (student / 4).log_softmax(-1), (teacher / 4).softmax(-1), reduction="batchmean"
    )
    torch.testing.assert_close(soft_target_loss(student, teacher, temperature=4.0), theirs)


def test_shapes_are_checked_in_tests() -> None:
    with pytest.raises(Exception, match="Type-check error"):
        kl_divergence(torch.zeros(2, 3), torch.zeros(2, 4))


@given(seeds, classes, st.floats(0.05, 0.95))
def test_no_divergence_is_negative_and_each_is_zero_at_equality_only(seed, classes, beta) -> None:
    student, teacher = pair(seed, 5, classes)
    losses = {
        "reverse": reverse_kl_loss,
        "mixture": partial(jensen_shannon_loss, beta=beta),
        "variation": total_variation_loss,
        "centred": partial(logit_mse_loss, centred=True),
    }
    for name, loss in losses.items():
        assert loss(student, teacher) > 1e-9, name
        assert loss(teacher + 3.0, teacher).abs() < 1e-12, name


@given(seeds, classes, temperatures)
def test_masking_equals_slicing_for_every_divergence(seed, classes, temperature) -> None:
    student, teacher = pair(seed, 8, classes)
    mask = torch.rand(8, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[0] = True
    for loss in (
        partial(reverse_kl_loss, temperature=temperature),
        partial(jensen_shannon_loss, temperature=temperature),
        total_variation_loss,
        logit_mse_loss,
    ):
        masked, sliced = loss(student, teacher, mask=mask), loss(student[mask], teacher[mask])
        torch.testing.assert_close(masked, sliced, rtol=1e-12, atol=1e-14)


@given(seeds, classes, st.floats(0.05, 0.95))
def test_the_mixture_is_bounded_by_the_entropy_of_its_shares(seed, classes, beta) -> None:
    student, teacher = pair(seed, 5, classes, scale=30.0)
    bound = -beta * math.log(beta) - (1 - beta) * math.log(1 - beta)
    value = jensen_shannon_loss(student, teacher, beta=beta)
    assert value <= bound + 1e-12
    torch.testing.assert_close(value, jensen_shannon_loss(teacher, student, beta=1 - beta), rtol=1e-9, atol=1e-12)


@given(seeds, classes)
def test_the_mixture_tends_to_either_divergence(seed, classes) -> None:
    student, teacher = pair(seed, 4, classes, scale=1.0)
    share = 1e-6
    forward = jensen_shannon_loss(student, teacher, beta=share) / share
    reverse = jensen_shannon_loss(student, teacher, beta=1 - share) / share
    torch.testing.assert_close(forward, soft_target_loss(student, teacher), rtol=1e-2, atol=1e-4)
    torch.testing.assert_close(reverse, reverse_kl_loss(student, teacher), rtol=1e-2, atol=1e-4)


@given(seeds, classes)
def test_the_total_variation_obeys_its_bounds(seed, classes) -> None:
    student, teacher = pair(seed, 1, classes)
    distance = total_variation_loss(student, teacher)
    assert 0.0 <= distance <= 1.0
    for divergence in (soft_target_loss(student, teacher), reverse_kl_loss(student, teacher)):
        assert distance <= (divergence / 2).sqrt() + 1e-12


@given(seeds, classes)
def test_half_the_centred_regression_is_the_limit_of_a_high_temperature(seed, classes) -> None:
    student, teacher = pair(seed, 4, classes, scale=1.0)
    limit = logit_mse_loss(student, teacher, centred=True) / 2
    for loss in (soft_target_loss, reverse_kl_loss):
        torch.testing.assert_close(loss(student, teacher, temperature=1e4), limit, rtol=1e-2, atol=1e-4)
    assert logit_mse_loss(student, teacher, centred=True) <= logit_mse_loss(student, teacher) + 1e-12
