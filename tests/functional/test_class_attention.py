import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from understudy.functional import class_activation_maps, class_attention_loss

sizes = st.tuples(st.integers(2, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))
grids = st.integers(1, 4)


def pair(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    student, teacher = (torch.randn(shape, generator=generator).double() for _ in range(2))
    return student, teacher


@given(sizes)
def test_the_mean_of_the_maps_is_what_the_classifier_says(shape) -> None:
    feature, _ = pair(shape)
    classifier = torch.nn.Linear(shape[1], 4, bias=False).double()
    maps = class_activation_maps(feature, classifier.weight)
    torch.testing.assert_close(maps.mean((2, 3)), classifier(feature.mean((2, 3))))
    assert torch.equal(class_activation_maps(feature, classifier.weight[:, :, None, None]), maps)


@given(sizes, grids)
def test_where_the_classes_are_is_compared_and_not_how_strong(shape, grid) -> None:
    student, teacher = pair(shape)
    loss = class_attention_loss(student, teacher, grid=grid)
    assert 0.0 <= loss <= 4.0 / grid**2
    assert class_attention_loss(3.0 * teacher, teacher, grid=grid) < 1e-12
    assert class_attention_loss(teacher, teacher, grid=grid, unit_length=False) == 0.0
    torch.testing.assert_close(class_attention_loss(3.0 * student, teacher, grid=grid), loss)


@given(sizes, grids)
def test_masked_equals_the_unmasked_rest(shape, grid) -> None:
    student, teacher = pair((3, *shape[1:]))
    mask = torch.tensor([True, False, True])
    masked = class_attention_loss(student, teacher, grid=grid, mask=mask)
    torch.testing.assert_close(masked, class_attention_loss(student[mask], teacher[mask], grid=grid))


def test_lengths_count_when_they_are_kept() -> None:
    maps = torch.ones(1, 2, 4, 4)
    assert class_attention_loss(3.0 * maps, maps, unit_length=False).item() == pytest.approx(4.0)
