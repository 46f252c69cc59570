"""Counts against published numbers."""

from collections.abc import Iterator

import pytest
import torch
import torchvision
from torch import nn

from understudy.measure import cost, macs
from understudy.sources import BuiltinModel, build_model, save_artifact
from understudy.tokenizing import Words, bytes_of

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


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3)])
@pytest.mark.parametrize("directions", [1, 2])
def test_recurrent_layers_are_counted(kind, gates, directions):
    tokens, inputs, width = 7, 5, 3
    layer = getattr(nn, kind)(inputs, width, batch_first=True, bidirectional=directions == 2)
    assert macs(layer, torch.rand(4, tokens, inputs)) == directions * tokens * gates * width * (inputs + width)


@pytest.mark.parametrize(("name", "gates"), [("lstm", 4), ("gru", 3)])
def test_a_network_for_texts_costs_what_its_first_text_does(name, gates):
    arguments = {"embedding": 5, "width": 3, "layers": 2}
    texts = bytes_of(["one two three four", "and a longer one that is not counted"])
    spec = BuiltinModel(name=name, arguments=arguments, preprocess=Words(buckets=20))
    first, second = (2 * 4 * gates * 3 * (inputs + 3) for inputs in (5, 6))
    assert macs(build_model(spec, classes=10, inputs=texts), texts) == first + second + 6 * 10


@pytest.fixture(params=[True, False], ids=["on", "off"])
def libraries(request: pytest.FixtureRequest) -> Iterator[bool]:
    """What computes whole layers at once, turned on or off by somebody."""
    before = torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled, torch.backends.mha.get_fastpath_enabled()
    set_libraries(*[request.param] * 3)
    yield request.param
    set_libraries(*before)


def set_libraries(mkldnn: bool, cudnn: bool, fast_path: bool) -> None:
    torch.backends.mkldnn.enabled = mkldnn
    torch.backends.cudnn.enabled = cudnn
    torch.backends.mha.set_fastpath_enabled(fast_path)


@pytest.mark.parametrize("fails", [False, True], ids=["counted", "failed"])
def test_what_computes_is_as_it_was_afterwards(libraries, fails):
    class Layer(nn.Module):
        def forward(self, values):
            seen.append((torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled))
            if fails:
                raise RuntimeError("not today")
            return values

    seen = []
    if fails:
        with pytest.raises(RuntimeError, match="not today"):
            macs(Layer(), torch.rand(2, 3))
    else:
        assert macs(Layer(), torch.rand(2, 3)) == 0
    assert seen == [(False, False)]
    assert torch.backends.mkldnn.enabled is libraries
    assert torch.backends.cudnn.enabled is libraries
    assert torch.backends.mha.get_fastpath_enabled() is libraries
