import torch
from hypothesis import given
from hypothesis import strategies as st

from understudy.functional import hint_loss

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4)


def pair(shape: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    student, teacher = (torch.randn(shape, generator=generator).double() for _ in range(2))
    return student, teacher


@given(shapes)
def test_is_zero_at_equality_symmetric_and_never_negative(shape) -> None:
    student, teacher = pair(shape)
    assert hint_loss(teacher, teacher) == 0.0
    assert hint_loss(student, teacher) > 0.0
    assert torch.equal(hint_loss(student, teacher), hint_loss(teacher, student))


@given(shapes, st.floats(0.1, 10.0))
def test_has_the_squared_unit_of_the_feature(shape, scale) -> None:
    student, teacher = pair(shape)
    torch.testing.assert_close(hint_loss(scale * student, scale * teacher), scale**2 * hint_loss(student, teacher))


@given(shapes)
def test_masked_equals_the_unmasked_rest(shape) -> None:
    student, teacher = pair([3, *shape])
    mask = torch.tensor([True, False, True])
    masked = hint_loss(student, teacher, mask=mask)
    torch.testing.assert_close(masked, hint_loss(student[mask], teacher[mask]))
    everywhere = torch.ones_like(mask)
    torch.testing.assert_close(hint_loss(student, teacher, mask=everywhere), hint_loss(student, teacher))


def test_an_empty_batch_gives_zero_when_its_share_is_known() -> None:
    nothing = torch.zeros(0, 3, requires_grad=True)
    loss = hint_loss(nothing, nothing.detach(), total=torch.tensor(2.0))
    loss.backward()
    assert loss.item() == 0.0
