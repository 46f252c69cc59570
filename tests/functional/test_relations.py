import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from understudy.functional import (
    correlation_congruence_loss,
    embedding_similarity_loss,
    probabilistic_transfer_loss,
    relational_angle_loss,
    relational_distance_loss,
    similarity_preserving_loss,
)

seeds = st.integers(0, 2**31 - 1)
counts = st.integers(3, 7)
OF_DIFFERENCES = [relational_distance_loss, relational_angle_loss]
LOSSES = [
    *OF_DIFFERENCES,
    correlation_congruence_loss,
    embedding_similarity_loss,
    probabilistic_transfer_loss,
    similarity_preserving_loss,
]

each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)


def pair(seed: int, count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(count, width, generator=generator, dtype=torch.float64) for width in (3, 5))


def rotation(seed: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q


@each_loss
@given(seeds, counts)
def test_is_never_negative_and_zero_at_equality(loss, seed, count) -> None:
    student, teacher = pair(seed, count)
    assert loss(student, teacher) > 0.0
    assert loss(teacher, teacher).abs() < 1e-12


@each_loss
@given(seeds, counts, st.floats(0.01, 100.0))
def test_a_rotation_and_a_scale_of_either_side_change_nothing(loss, seed, count, scale) -> None:
    student, teacher = pair(seed, count)
    value = loss(student, teacher)
    torch.testing.assert_close(loss(scale * student @ rotation(seed, 3), teacher), value, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(loss(student, scale * teacher @ rotation(seed, 5)), value, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("loss", OF_DIFFERENCES, ids=lambda loss: loss.__name__)
@given(seeds, counts)
def test_a_shift_changes_nothing_where_only_differences_count(loss, seed, count) -> None:
    student, teacher = pair(seed, count)
    torch.testing.assert_close(loss(student + 7.0, teacher - 3.0), loss(student, teacher), rtol=1e-9, atol=1e-11)


@each_loss
@given(seeds, counts)
def test_the_order_of_the_samples_does_not_matter(loss, seed, count) -> None:
    student, teacher = pair(seed, count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(loss(student[order], teacher[order]), loss(student, teacher), rtol=1e-10, atol=1e-12)


@each_loss
@pytest.mark.parametrize("student", [torch.zeros(4, 3), torch.ones(4, 3), torch.eye(4, 3), 1e-20 * torch.rand(4, 3)])
def test_zeros_and_equal_samples_have_a_finite_gradient(loss, student) -> None:
    for teacher in (torch.zeros(4, 5), torch.ones(4, 5), torch.eye(4, 5)):
        leaf = student.clone().requires_grad_()
        value = loss(leaf, teacher)
        value.backward()
        assert value.isfinite()
        assert leaf.grad.isfinite().all()


@each_loss
@pytest.mark.parametrize("count", [1, 2])
def test_very_small_batches_are_finite(loss, count) -> None:
    """And a single sample has no relation to differ in."""
    student, teacher = pair(0, count)
    student.requires_grad_()
    value = loss(student, teacher)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    if count == 1 or loss in (relational_angle_loss, relational_distance_loss, probabilistic_transfer_loss):
        assert value.abs() < 1e-30


@each_loss
def test_autocast_does_not_lower_the_precision(loss) -> None:
    student, teacher = (tensor.float() for tensor in pair(0, 6))
    expected = loss(student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(student, teacher), expected, rtol=1e-6, atol=1e-7)


@each_loss
def test_a_teacher_of_another_batch_is_noticed(loss) -> None:
    with pytest.raises(Exception, match="Type-check error"):
        loss(torch.zeros(3, 2), torch.zeros(4, 2))


@given(seeds, counts, st.floats(0.05, 2.0))
def test_a_high_order_is_the_gaussian_kernel(seed, count, gamma) -> None:
    """exp(-gamma d²) of the distances between the directions."""
    unit = [rows / rows.norm(dim=1, keepdim=True) for rows in pair(seed, count)]
    student, teacher = (torch.exp(-gamma * (rows[:, None] - rows).square().sum(-1)) for rows in unit)
    value = correlation_congruence_loss(*pair(seed, count), gamma=gamma, order=30)
    torch.testing.assert_close(value, (student - teacher).square().mean(), rtol=1e-9, atol=1e-12)


@given(seeds, counts)
def test_order_one_compares_the_cosines(seed, count) -> None:
    """The mean over all entries, the diagonal included, times the square of 2 gamma exp(-2 gamma)."""
    student, teacher = pair(seed, count)
    factor = (2 * 0.4) ** 2 * torch.tensor(-4 * 0.4).exp().double() * (count - 1) / count
    value = correlation_congruence_loss(student, teacher, gamma=0.4, order=1)
    torch.testing.assert_close(value, factor * embedding_similarity_loss(student, teacher), rtol=1e-6, atol=1e-12)


def test_opposite_samples_have_a_finite_divergence() -> None:
    """Where the student gives the teacher's neighbour the smallest kernel there is."""
    student = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    value = probabilistic_transfer_loss(student, torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]))
    value.backward()
    assert 5.0 < value < 20.0
    assert student.grad.isfinite().all()
