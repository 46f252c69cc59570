import pytest
import torch
from torch import nn

from understudy import InputError
from understudy.adapters import SpatialAdapter, adapter_for


@pytest.mark.parametrize(
    ("student", "teacher", "parameters"),
    [
        ((2, 5), (2, 5), 0),
        ((2, 5), (2, 7), 35),
        ((2, 4, 5), (2, 4, 7), 35),
        ((2, 3, 8, 8), (2, 3, 8, 8), 0),
        ((2, 3, 8, 8), (2, 6, 8, 8), 18),
        ((2, 3, 8, 8), (2, 6, 4, 4), 18),
        ((2, 3, 4, 4), (2, 6, 8, 9), 18),
        ((2, 3, 4, 8), (2, 3, 8, 4), 0),
    ],
)
def test_joins_the_two_shapes(student, teacher, parameters) -> None:
    adapter = adapter_for(student, teacher)
    assert adapter(torch.randn(student)).shape == teacher
    assert sum(p.numel() for p in adapter.parameters()) == parameters


@pytest.mark.parametrize(
    ("student", "teacher"), [((2, 5), (2, 3, 4, 4)), ((2, 4, 5), (2, 6, 5)), ((2, 3, 4, 4, 4), (2, 6, 4, 4, 4))]
)
def test_says_what_it_cannot_join(student, teacher) -> None:
    with pytest.raises(InputError, match=r"no adapter joins .*\(N, .*\(N, .*choose another pair"):
        adapter_for(student, teacher)


def test_another_batch_size_is_the_same_adapter() -> None:
    assert isinstance(adapter_for((2, 5), (9, 5)), nn.Identity)
    adapter = adapter_for((2, 3, 8, 8), (2, 6, 4, 4))
    assert adapter(torch.randn(7, 3, 8, 8)).shape == (7, 6, 4, 4)


def test_shrinking_averages_over_every_pixel() -> None:
    feature = torch.arange(16.0).reshape(1, 1, 4, 4)
    shrunk = SpatialAdapter((1, 1), (2, 2))(feature)
    expected = torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]])  # means of the four quarters
    assert torch.equal(shrunk, expected)


@pytest.mark.parametrize("size", [(2, 2), (8, 8), (2, 8), (8, 2)])
def test_every_pixel_reaches_the_result_whichever_way_it_is_resized(size) -> None:
    feature = torch.ones(1, 1, 4, 4, requires_grad=True)
    resized = SpatialAdapter((1, 1), size)(feature)
    torch.testing.assert_close(resized, torch.ones(1, 1, *size))
    resized.sum().backward()
    assert (feature.grad > 0).all()
