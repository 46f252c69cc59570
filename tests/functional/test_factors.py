import torch
from hypothesis import given
from hypothesis import strategies as st

from understudy.functional import factor_transfer_loss

shapes = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(lambda shape: [3, 2, *shape])
norms = st.sampled_from([1.0, 1.5, 2.0])


def pair(shape: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    student, teacher = (torch.randn(shape, generator=generator).double() for _ in range(2))
    return student, teacher


@given(shapes, norms, st.floats(0.1, 10.0))
def test_only_directions_are_compared(shape, norm, scale) -> None:
    student, teacher = pair(shape)
    loss = factor_transfer_loss(student, teacher, norm=norm)
    assert loss > 0.0
    assert factor_transfer_loss(scale * teacher, teacher, norm=norm) < 1e-12
    torch.testing.assert_close(factor_transfer_loss(scale * student, teacher, norm=norm), loss)


@given(shapes)
def test_stays_below_what_two_directions_can_differ_by(shape) -> None:
    student, teacher = pair(shape)
    values = student[0].numel()
    assert factor_transfer_loss(student, teacher) <= 2.0 / values**0.5
    torch.testing.assert_close(factor_transfer_loss(-teacher, teacher, norm=2.0).item(), 4.0 / values)


@given(shapes, norms)
def test_masked_equals_the_unmasked_rest(shape, norm) -> None:
    student, teacher = pair(shape)
    mask = torch.tensor([True, False, True])
    masked = factor_transfer_loss(student, teacher, norm=norm, mask=mask)
    torch.testing.assert_close(masked, factor_transfer_loss(student[mask], teacher[mask], norm=norm))


def test_a_factor_of_no_length_has_a_finite_gradient() -> None:
    student = torch.zeros(2, 3, requires_grad=True)
    factor_transfer_loss(student, torch.ones(2, 3), norm=1.5).backward()
    assert student.grad.isfinite().all()
