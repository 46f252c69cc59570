"""A network that became smaller is built again from the sizes alone."""

import copy

import pytest
import torch
from torch import nn

from understudy import InputError
from understudy.edits import Resized


class Split(nn.Module):
    """Keeps sizes as a list and as a tuple, as some networks do."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.shape = tuple(sizes)
        self.linear = nn.Linear(4, sum(sizes))

    def forward(self, inputs):
        assert isinstance(self.sizes, list)
        first, second = self.linear(inputs).split(self.sizes, dim=1)
        return first.sum(1, keepdim=True) + second.sum(1, keepdim=True)


class Tied(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.second.weight = self.first.weight


def again(before: nn.Module, after: nn.Module) -> nn.Module:
    edit = Resized.model_validate_json(Resized.between(before, after).model_dump_json())
    network = edit.replay(copy.deepcopy(before), None)
    network.load_state_dict(after.state_dict())
    return network


def test_weights_buffers_and_numbers_get_their_new_sizes() -> None:
    before = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1))
    after = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 5, 3, groups=5), nn.Conv2d(5, 4, 1))
    images = torch.rand(2, 3, 8, 8)
    rebuilt = again(before.eval(), after.eval())
    assert torch.equal(rebuilt(images), after(images))
    assert repr(rebuilt) == repr(after)
    assert Resized.between(before, after).attributes["2"] == {"in_channels": 5, "out_channels": 5, "groups": 5}


def test_lists_and_tuples_of_sizes_stay_what_they_are() -> None:
    before, after = Split([6, 2]), Split([3, 1])
    rebuilt = again(before, after)
    assert (rebuilt.sizes, rebuilt.shape) == ([3, 1], (3, 1))
    inputs = torch.rand(2, 4)
    assert torch.equal(rebuilt(inputs), after(inputs))


def test_what_is_shared_stays_shared_and_frozen_stays_frozen() -> None:
    before, after = Tied(8), Tied(3)
    before.first.bias.requires_grad_(False)
    rebuilt = again(before, after)
    assert rebuilt.first.weight is rebuilt.second.weight
    assert not rebuilt.first.bias.requires_grad
    assert rebuilt.first.weight.shape == (3, 3)


def test_weights_that_are_no_longer_shared_are_refused() -> None:
    after = Tied(3)
    after.second.weight = nn.Parameter(after.second.weight.detach().clone())
    with pytest.raises(InputError, match=r"no longer shared: 'second\.weight'"):
        Resized.between(Tied(8), after)


def test_another_network_is_refused() -> None:
    with pytest.raises(InputError, match="not in both: '1'"):
        Resized.between(nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    edit = Resized.between(nn.Sequential(nn.Linear(2, 4)), nn.Sequential(nn.Linear(2, 3)))
    with pytest.raises(InputError, match="the structural edit 'resized' is about the layer '0', which Linear does not"):
        edit.replay(nn.Linear(2, 4), None)
