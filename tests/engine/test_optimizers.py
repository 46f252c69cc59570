"""Optimizers by name, and the constraint on the norms of weights."""

import pytest
import torch
from torch import nn

from understudy import InputError
from understudy.engine import Optimizer
from understudy.engine.optimizers import build_optimizer, keep_norms


def test_any_class_of_torch_by_name_in_any_case(network):
    net = network()
    assert isinstance(build_optimizer(Optimizer(kind="SGD", lr=0.1), [net]), torch.optim.SGD)
    assert isinstance(build_optimizer(Optimizer(kind="rmsprop", lr=0.1), [net]), torch.optim.RMSprop)
    built = build_optimizer(Optimizer(kind="AdamW", lr=0.1, weight_decay=0.2, options={"betas": [0.8, 0.9]}), [net])
    assert built.param_groups[0]["betas"] == (0.8, 0.9)
    assert built.param_groups[0]["weight_decay"] == 0.2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Optimizer(kind="adamm", lr=0.1), "no optimizer 'adamm'; nearest: 'adam'"),
        (Optimizer(kind="lbfgs", lr=0.1), "several times per step"),
        (Optimizer(lr=0.1, options={"momentun": 0.9}), "no option 'momentun'; nearest: 'momentum'"),
        (Optimizer(lr=0.1, options={"weight_decay": 0.9}), "as a field of the optimizer"),
        (Optimizer(lr=0.1, options={"nesterov": True}), "refuses these options"),
        (Optimizer(kind="rprop", lr=0.1, weight_decay=0.1), "has no weight decay"),
    ],
)
def test_names_what_is_wrong(network, spec, message):
    with pytest.raises(InputError, match=message):
        build_optimizer(spec, [network()])


def test_nothing_to_train(network):
    with pytest.raises(InputError, match="nothing to train"):
        build_optimizer(Optimizer(lr=0.1), [network().requires_grad_(False)])


def test_biases_and_norms_can_be_left_out_of_the_decay():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3, bias=False))
    groups = build_optimizer(Optimizer(lr=0.1, weight_decay=0.1, no_decay_on_bias_and_norm=True), [net]).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.1, 2), (0.0, 3)]


def test_shared_parameters_are_trained_once():
    layer = nn.Linear(4, 4)
    built = build_optimizer(Optimizer(lr=0.1), [nn.Sequential(layer, layer), layer])
    assert sum(len(group["params"]) for group in built.param_groups) == 2


@pytest.mark.parametrize("layer", [nn.Linear(5, 3), nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(2, 3, 3)])
def test_norms_are_kept_per_unit(layer):
    with torch.no_grad():
        layer.weight.mul_(10.0)
    dimension = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    before = layer.weight.detach().clone()
    keep_norms(nn.Sequential(layer), 1.5)
    for unit in range(3):
        old, new = before.select(dimension, unit), layer.weight.detach().select(dimension, unit)
        expected = old * min(1.5 / float(old.norm()), 1.0)
        assert torch.allclose(new, expected, atol=1e-5)
