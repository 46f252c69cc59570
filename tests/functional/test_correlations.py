import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from understudy.functional import dist_loss

seeds = st.integers(0, 2**31 - 1)
classes = st.integers(2, 7)
temperatures = st.floats(0.5, 20.0)


def pair(seed: int, count: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(count, classes, generator=generator, dtype=torch.float64) for _ in range(2))


@given(seeds, classes, temperatures)
def test_lies_between_zero_at_equality_and_the_stated_most(seed, classes, temperature) -> None:
    student, teacher = pair(seed, 5, classes)
    value = dist_loss(student, teacher, temperature=temperature, beta=1.5, gamma=0.5)
    assert 0.0 < value < 2 * temperature**2 * 2.0
    assert dist_loss(teacher, teacher, temperature=temperature).abs() < 1e-10 * temperature**2


@given(seeds, classes, temperatures, st.floats(-50.0, 50.0))
def test_a_constant_on_all_logits_changes_nothing(seed, classes, temperature, shift) -> None:
    student, teacher = pair(seed, 3, classes)
    value = dist_loss(student, teacher, temperature=temperature)
    torch.testing.assert_close(dist_loss(student + shift, teacher - shift, temperature=temperature), value)


@given(seeds, st.floats(0.1, 1.0))
def test_a_linear_function_of_the_probabilities_is_as_good_as_equal(seed, slope) -> None:
    """What the paper relaxes: mixed with the uniform distribution, the preferences stay."""
    _, teacher = pair(seed, 5, 4)
    mixed = slope * teacher.softmax(-1) + (1 - slope) / 4
    assert dist_loss(mixed.log(), teacher).abs() < 1e-10


@pytest.mark.parametrize("student", [torch.zeros(4, 7), torch.full((4, 7), 3.7), 1e4 * torch.eye(4, 7)])
def test_constant_rows_and_classes_have_a_finite_gradient(student) -> None:
    """And no gradient at all where rounding is the only deviation."""
    for teacher in (torch.zeros(4, 7), torch.eye(4, 7), 1e4 * torch.eye(4, 7)):
        leaf = student.clone().requires_grad_()
        value = dist_loss(leaf, teacher)
        value.backward()
        assert value.isfinite()
        assert leaf.grad.abs().max() < 10.0


def test_beta_and_gamma_weigh_the_two_relations() -> None:
    student, teacher = pair(0, 5, 4)
    inter, intra = dist_loss(student, teacher, gamma=0.0), dist_loss(student, teacher, beta=0.0)
    torch.testing.assert_close(dist_loss(student, teacher, beta=2.0, gamma=3.0), 2 * inter + 3 * intra)
    transposed = dist_loss(student.softmax(-1).T.log(), teacher.softmax(-1).T.log(), beta=0.0)
    assert not torch.isclose(inter, transposed)  # the softmax is over classes for both


def test_the_gradient_stays_with_the_student() -> None:
    student, teacher = (logits.requires_grad_() for logits in pair(0, 5, 4))
    dist_loss(student, teacher).backward()
    assert student.grad.abs().sum() > 0.0
    assert teacher.grad is None
