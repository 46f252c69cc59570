"""The list of layers is what taps can be written with."""

import torch
from torch import nn

from understudy.sources import BuiltinModel, build_model, layers
from understudy.taps import Taps


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6, batch_first=True)
        self.head = nn.Linear(6, 3)
        self.unused = nn.Linear(2, 2)

    def forward(self, inputs):
        return self.head(self.lstm(inputs)[0][:, -1])


def test_paths_types_shapes_and_parameters():
    images = torch.rand(2, 1, 8, 8)
    model = build_model(BuiltinModel(name="cnn", arguments={"widths": [4, 8]}), classes=10, inputs=images)
    found = {layer.path: layer for layer in layers(model, images)}
    assert found["block1.conv"].output_shape == (2, 4, 8, 8)
    assert found["block2"].output_shape == (2, 8, 4, 4)
    assert found["block2"].parameters == 8 * 4 * 9 + 2 * 8
    assert (found["head"].type, found["head"].output_shape, found["head"].parameters) == ("Linear", (2, 10), 90)


def test_several_outputs_are_written_as_a_tap_takes_them():
    inputs = torch.rand(2, 5, 4)
    model = Recurrent()
    found = {layer.path: layer.output_shape for layer in layers(model, inputs)}
    assert found == {"lstm:0": (2, 5, 6), "head": (2, 3), "unused": None}
    taps = Taps(model, ["lstm:0"])
    with taps.reading() as features:
        model(inputs)
    assert features["lstm:0"].shape == (2, 5, 6)


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 2)).train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inputs = torch.rand(4, 3)
    random = torch.get_rng_state()
    layers(torch.compile(model, backend="eager"), inputs)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
