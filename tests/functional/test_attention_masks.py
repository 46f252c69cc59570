import torch
from hypothesis import given
from hypothesis import strategies as st

from understudy.functional import masked_feature_loss

sizes = st.integers(1, 4)


def features(batch: int, channels: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch + channels + side)
    student, teacher = (torch.randn(batch, channels, side, side, generator=generator).double() for _ in range(2))
    return student, teacher


@given(sizes, sizes, sizes)
def test_is_zero_at_equality_symmetric_and_never_negative(batch, channels, side) -> None:
    student, teacher = features(batch, channels, side)
    assert masked_feature_loss(teacher, teacher) == 0.0
    assert masked_feature_loss(student, teacher) > 0.0
    torch.testing.assert_close(masked_feature_loss(student, teacher), masked_feature_loss(teacher, student))


@given(sizes, sizes, sizes)
def test_becomes_the_plain_distance_at_a_high_temperature(batch, channels, side) -> None:
    student, teacher = features(batch, channels, side)
    plain = torch.linalg.vector_norm((student - teacher).flatten(1), dim=1).mean()
    torch.testing.assert_close(masked_feature_loss(student, teacher, temperature=1e9, attention=0.0), plain)


@given(sizes, sizes, st.floats(0.1, 10.0))
def test_has_the_unit_of_the_feature_and_the_temperature(channels, side, scale) -> None:
    student, teacher = features(2, channels, side)
    scaled = masked_feature_loss(scale * student, scale * teacher, temperature=scale)
    torch.testing.assert_close(scaled, scale * masked_feature_loss(student, teacher, temperature=1.0))


@given(sizes, sizes)
def test_masked_equals_the_unmasked_rest(channels, side) -> None:
    student, teacher = features(3, channels, side)
    mask = torch.tensor([True, False, True])
    masked = masked_feature_loss(student, teacher, mask=mask)
    torch.testing.assert_close(masked, masked_feature_loss(student[mask], teacher[mask]))


def test_where_nothing_is_active_is_finite() -> None:
    student = torch.zeros(2, 3, 2, 2, requires_grad=True)
    loss = masked_feature_loss(student, torch.zeros(2, 3, 2, 2))
    loss.backward()
    assert loss.item() == 0.0
    assert student.grad.equal(torch.zeros_like(student))
