"""Layers that became products: the edit replays without data, and comes back from disk."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from understudy import Classification, InputError
from understudy.compress import factorise
from understudy.edits import Factorised
from understudy.edits.factorised import factors_of
from understudy.sources import build_model, load_artifact, save_artifact
from understudy.sources.model_specs import ArtifactModel, BuiltinModel

CNN = BuiltinModel(name="cnn", arguments={"widths": [8, 16]})
LOAD = """
import sys, torch
from understudy.sources import load_artifact
loaded = load_artifact(sys.argv[1])
inputs = torch.linspace(0, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
loaded.module.eval()(inputs).detach().numpy().tofile(sys.argv[2])
"""


def test_stride_padding_dilation_and_what_trains_stay() -> None:
    layer = nn.Conv2d(6, 8, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2), padding_mode="circular")
    layer.weight.requires_grad_(False)
    layer.double().eval()
    factors = factors_of(layer, (4, 3))
    images = torch.rand(2, 6, 12, 12, dtype=torch.float64)
    assert factors(images).shape == layer(images).shape
    assert (factors.core.stride, factors.core.padding, factors.core.dilation) == ((2, 1), (1, 2), (1, 2))
    assert factors.core.padding_mode == "circular"
    assert (factors.first.kernel_size, factors.last.kernel_size) == ((1, 1), (1, 1))
    assert [name for name, parameter in factors.named_parameters() if parameter.requires_grad] == ["last.bias"]
    assert not factors.training
    assert factors.core.weight.dtype == torch.float64


def test_a_full_rank_leaves_its_factor_out() -> None:
    layer = nn.Conv1d(4, 6, 3)
    assert [name for name, _ in factors_of(layer, (6, 2)).named_children()] == ["first", "core"]
    assert [name for name, _ in factors_of(layer, (2, 4)).named_children()] == ["core", "last"]
    assert factors_of(layer, (6, 2)).core.bias is not None
    assert factors_of(layer, (2, 4)).core.bias is None
    pointwise = factors_of(nn.Conv3d(4, 6, 1, stride=2, bias=False), (2,))
    assert (pointwise.first.stride, pointwise.last.stride, pointwise.last.bias) == ((2, 2, 2), (1, 1, 1), None)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"7": (1,)}, "layer '7', which Sequential does not have"),
        ({"0": (2,)}, "'0' the ranks .*convolution with a window, expected two ranks"),
        ({"1": (2, 2)}, "linear layer, expected one rank"),
        ({"1": (9,)}, r"5 outputs and 4 inputs, expected ranks up to \(4,\)"),
        ({"2": (1,)}, "it is a ReLU, expected a linear layer"),
        ({"3": (1, 1)}, "not grouped"),
    ],
)
def test_another_network_is_refused(layers, message) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 5), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2))
    with pytest.raises(InputError, match=message):
        Factorised(layers=layers).replay(network, None)


def test_saved_factorised_saved_again_and_loaded(tmp_path: Path) -> None:
    images = torch.rand(2, 3, 8, 8)
    network = build_model(CNN, classes=3, inputs=images)
    once = factorise(network, (images, None), task=Classification(), energy=0.6, keep=["block1", "head"])
    assert list(once.layers) == ["block2.conv"]
    classes = ("a", "b", "c")
    save_artifact(tmp_path / "one", once.network, spec=CNN, classes=classes, inputs=images, edits=[once.edit])
    loaded = load_artifact(tmp_path / "one").module
    torch.testing.assert_close(loaded.eval()(images), once.network.eval()(images), rtol=0, atol=0)
    twice = factorise(loaded, (images, None), task=Classification(), energy=0.5, keep=["block2"])
    origin = ArtifactModel(path=str(tmp_path / "one"))
    save_artifact(tmp_path / "two", twice.network, spec=origin, classes=classes, inputs=images, edits=[twice.edit])
    again = load_artifact(tmp_path / "two").module
    torch.testing.assert_close(again.eval()(images), twice.network.eval()(images), rtol=0, atol=0)


@pytest.mark.e2e
def test_another_process_gets_the_same_outputs(tmp_path: Path) -> None:
    images = torch.linspace(0, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
    network = build_model(CNN, classes=3, inputs=images)
    made = factorise(network, (images, None), task=Classification(), target={"macs": 0.6})
    save_artifact(tmp_path, made.network, spec=CNN, classes=("a", "b", "c"), inputs=images, edits=[made.edit])
    command = [sys.executable, "-c", LOAD, str(tmp_path), str(tmp_path / "logits")]
    subprocess.run(command, check=True)
    logits = torch.frombuffer(bytearray((tmp_path / "logits").read_bytes()), dtype=torch.float32).reshape(2, 3)
    torch.testing.assert_close(logits, made.network.eval()(images), rtol=0, atol=1e-6)
