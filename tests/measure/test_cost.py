"""Counts against published numbers."""

import pytest
import torch
import torchvision
from torch import nn

from understudy.measure import cost
from understudy.sources import BuiltinModel, build_model, save_artifact

IMAGE = torch.rand(1, 3, 224, 224)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vit_b_16"])
def test_published_numbers(name):
    published = torchvision.models.get_model_weights(name).DEFAULT.meta
    found = cost(torchvision.models.get_model(name), IMAGE)
    assert found.parameters == published["num_params"]
    assert round(found.macs / 1e9, 3) == published["_ops"]


def test_one_sample_whatever_the_batch_and_the_model_as_it_was():
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Dropout(), nn.Linear(7, 3, bias=False)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fast_path = torch.backends.mha.get_fastpath_enabled()
    inputs = torch.rand(64, 5)
    random = torch.get_rng_state()
    assert cost(model, inputs).macs == 5 * 7 + 7 * 3
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.backends.mha.get_fastpath_enabled() == fast_path
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_bytes_are_those_of_the_file(tmp_path):
    spec = BuiltinModel(name="cnn", arguments={"widths": [8, 16]})
    inputs = torch.rand(2, 1, 8, 8)
    model = build_model(spec, classes=10, inputs=inputs)
    save_artifact(tmp_path, model, spec=spec, classes=tuple("0123456789"), inputs=inputs)
    assert cost(model, inputs).size_bytes == (tmp_path / "model.safetensors").stat().st_size


def test_shared_parameters_count_once():
    layer = nn.Linear(4, 4, bias=False)
    found = cost(nn.Sequential(layer, layer), torch.rand(1, 4))
    assert (found.parameters, found.macs) == (16, 32)
    assert (
        found.size_bytes
        < cost(nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)), torch.rand(1, 4)).size_bytes
    )
