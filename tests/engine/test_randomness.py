"""Random generators are seeded, kept and put back."""

import json
import random

import numpy as np
import torch
from torch import nn

from understudy.engine.randomness import kept_randomness, random_state, seed_all, set_random_state, undisturbed


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(())), random.gauss(0, 1), float(torch.randn(()))]


def test_state_goes_through_json():
    seed_all(1, 2, 0)
    random.gauss(0, 1)  # leaves half of a pair behind
    state = json.loads(json.dumps(random_state()))
    expected = draws()
    draws()
    set_random_state(state)
    assert draws() == expected


def test_each_epoch_rank_and_seed_is_its_own():
    seen = set()
    for numbers in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)):
        seed_all(*numbers)
        seen.add(tuple(draws()))
    assert len(seen) == 4


def test_kept():
    state = random_state()
    with kept_randomness():
        draws()
    assert random_state() == state


def test_undisturbed_puts_buffers_and_modes_back():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))
    net[0].eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with undisturbed(net):
        net.train()
        net(torch.randn(8, 3) * 5)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert [net[0].training, net[1].training] == [False, True]
