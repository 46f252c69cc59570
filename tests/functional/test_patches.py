import torch
from hypothesis import given
from hypothesis import strategies as st

from understudy.functional import patch_manifold_loss

sizes = st.integers(1, 4)


def features(batch: int, channels: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch + channels + side)
    student, teacher = (torch.randn(batch, channels, side, side, generator=generator).double() for _ in range(2))
    return student, teacher


@given(sizes, sizes, st.integers(2, 4), st.floats(0.1, 10.0))
def test_is_zero_at_equality_bounded_and_knows_no_lengths(batch, channels, side, scale) -> None:
    student, teacher = features(batch, channels + 1, side)
    loss = patch_manifold_loss(student, teacher)
    assert patch_manifold_loss(teacher, teacher) == 0.0
    assert 0.0 < loss <= 4.0 * (4.0 + 0.1 + 0.2)
    torch.testing.assert_close(patch_manifold_loss(scale * student, teacher), loss)


@given(sizes, sizes, sizes)
def test_knows_no_rotation_of_the_channels(batch, channels, side) -> None:
    student, teacher = features(batch, channels, side)
    rotation = torch.linalg.qr(features(1, 1, channels)[0][0, 0]).Q
    turned = torch.einsum("nchw,cd->ndhw", student, rotation)
    torch.testing.assert_close(patch_manifold_loss(turned, teacher), patch_manifold_loss(student, teacher))


@given(st.integers(2, 4), sizes, sizes)
def test_of_drawn_patches_only_those_count(batch, channels, side) -> None:
    student, teacher = features(batch, channels, side)
    only = {"within": 0.0, "across": 0.0, "anywhere": 1.0}
    drawn = torch.arange(side * side)  # the first image
    torch.testing.assert_close(
        patch_manifold_loss(student, teacher, drawn=drawn, **only),
        patch_manifold_loss(student[:1], teacher[:1], **only),
    )
    same = student.clone()
    same[0] = teacher[0]
    assert patch_manifold_loss(same, teacher, drawn=drawn, **only) == 0.0


def test_patches_of_zeros_and_no_images_are_finite() -> None:
    student = torch.zeros(2, 3, 2, 2, requires_grad=True)
    patch_manifold_loss(student, torch.ones(2, 3, 2, 2)).backward()
    assert student.grad.equal(torch.zeros_like(student))
    nothing = torch.zeros(0, 3, 2, 2, requires_grad=True)
    loss = patch_manifold_loss(nothing, torch.zeros(0, 3, 2, 2))
    loss.backward()
    assert loss.item() == 0.0
