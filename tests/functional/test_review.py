import torch
from hypothesis import given
from hypothesis import strategies as st

from understudy.functional import hierarchical_context_loss, hint_loss

sizes = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 7), st.integers(1, 7))


def pair(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    student, teacher = (torch.randn(shape, generator=generator).double() for _ in range(2))
    return student, teacher


@given(sizes)
def test_is_zero_at_equality_symmetric_and_never_negative(shape) -> None:
    student, teacher = pair(shape)
    assert hierarchical_context_loss(teacher, teacher) == 0.0
    assert hierarchical_context_loss(student, teacher) > 0.0
    assert torch.equal(hierarchical_context_loss(student, teacher), hierarchical_context_loss(teacher, student))


@given(sizes)
def test_averages_never_differ_by_more_than_the_maps(shape) -> None:
    student, teacher = pair((shape[0], shape[1], 4 * shape[2], 4 * shape[3]))  # into cells that do not overlap
    assert hierarchical_context_loss(student, teacher) <= hint_loss(student, teacher)


@given(sizes, st.floats(-3.0, 3.0))
def test_a_constant_difference_is_as_large_on_every_grid(shape, constant) -> None:
    teacher, _ = pair(shape)
    torch.testing.assert_close(
        hierarchical_context_loss(teacher + constant, teacher).item(), constant**2, atol=1e-12, rtol=1e-9
    )


@given(st.integers(1, 3))
def test_a_map_of_one_pixel_is_compared_as_it_is(count) -> None:
    student, teacher = pair((count, 3, 1, 1))
    torch.testing.assert_close(hierarchical_context_loss(student, teacher), hint_loss(student, teacher))


@given(sizes)
def test_masked_equals_the_unmasked_rest(shape) -> None:
    student, teacher = pair((3, *shape[1:]))
    mask = torch.tensor([True, False, True])
    masked = hierarchical_context_loss(student, teacher, mask=mask)
    torch.testing.assert_close(masked, hierarchical_context_loss(student[mask], teacher[mask]))
