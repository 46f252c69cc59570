"""Networks whose layers become products: costs that really fall, what is left alone, and bad input."""

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from understudy import Classification, InputError
from understudy.compress import FactorisedNetwork, factorise
from understudy.compress.low_rank_layers import Candidate
from understudy.measure import cost

TASK = Classification()
IMAGES = torch.rand(2, 3, 16, 16)


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, stride=2, padding=1, padding_mode="reflect"),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, groups=24),
        nn.Conv2d(24, 32, 1, stride=2),
        nn.Flatten(),
        nn.Linear(32 * 9, 20),
    )


def made(network: nn.Module, inputs: Tensor = IMAGES, **wanted) -> FactorisedNetwork:
    return factorise(network, (inputs, None), task=TASK, **wanted)


def checked(network: nn.Module, inputs: Tensor, **wanted) -> FactorisedNetwork:
    """Factorised, with what is told of it compared with what is measured."""
    result = made(network, inputs, **wanted)
    assert result.before == cost(network, inputs)
    assert result.after == cost(result.network, inputs)
    layers = result.layers.values()
    assert result.before.macs - result.after.macs == sum(layer.macs[0] - layer.macs[1] for layer in layers)
    fewer = sum(layer.parameters[0] - layer.parameters[1] for layer in layers)
    assert result.before.parameters - result.after.parameters == fewer
    assert all(layer.macs[1] < layer.macs[0] and layer.parameters[1] < layer.parameters[0] for layer in layers)
    assert all(layer.kept >= result.energy - 1e-6 for layer in layers)
    assert result.edit.layers == {path: layer.ranks for path, layer in result.layers.items()}
    return result


@pytest.mark.parametrize(
    "wanted", [{"energy": 0.7}, {"target": {"macs": 0.5}}, {"target": {"macs": 0.9, "params": 0.4}}]
)
def test_costs_fall_as_told_and_the_network_is_left_as_it_was(wanted) -> None:
    network = convolutional().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    result = checked(network, IMAGES, **wanted)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [type(layer) for layer in network] == [type(layer) for layer in convolutional()]
    assert all(layer.training for layer in result.network.modules())
    shares = {
        "macs": result.after.macs / result.before.macs,
        "params": result.after.parameters / result.before.parameters,
    }
    assert all(shares[name] <= share for name, share in wanted.get("target", {}).items())
    assert result.network(IMAGES).shape == (2, 20)


def test_the_highest_energy_within_the_target_is_taken() -> None:
    network = convolutional()
    result = made(network, target={"params": 0.5})
    slightly_more = made(network, energy=result.energy + 0.01)
    assert slightly_more.after.parameters > 0.5 * result.before.parameters


def low_rank_network() -> nn.Sequential:
    network = convolutional().double().eval()
    with torch.no_grad():
        for layer, rank in ((network[2], 3), (network[5], 2), (network[7], 4)):
            matrix = layer.weight.flatten(1)
            matrix.copy_(torch.randn(len(matrix), rank).double() @ torch.randn(rank, matrix.shape[1]).double())
    return network


def test_what_has_a_low_rank_is_reproduced_to_rounding() -> None:
    """Strides, padding by reflection and biases too: where nothing is lost, the outputs are the same."""
    network, images = low_rank_network(), IMAGES.double()
    result = made(network, images, energy=1.0 - 1e-12)
    assert {path: layer.ranks for path, layer in result.layers.items()} == {"2": (3, 16), "5": (2,), "7": (4,)}
    torch.testing.assert_close(result.network(images), network(images), rtol=1e-6, atol=1e-6)
    assert result.after.macs < 0.5 * result.before.macs


class Tied(nn.Module):
    """A tiny language classifier: the embedding's weight again as a projection, and attention of torch's own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.attend = nn.TransformerEncoderLayer(16, 2, 64, batch_first=True)
        self.project = nn.Linear(16, 20, bias=False)
        self.project.weight = self.embed.weight
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(20, 20))
        self.unused = nn.Linear(30, 30)
        self.twice = nn.Linear(20, 20)
        self.same = self.twice
        self.recur = nn.GRU(20, 20, batch_first=True)
        self.last = nn.Linear(20, 15)
        self.head = nn.Linear(15, 12)

    def forward(self, tokens: Tensor) -> Tensor:
        state = self.normed(self.project(self.attend(self.embed(tokens))))
        return self.head(self.last(input=self.recur(self.same(self.twice(state)))[0][:, -1]))


def test_what_cannot_be_factorised_is_left_alone_and_told_why() -> None:
    result = made(Tied(), torch.randint(0, 20, (2, 5)), energy=0.3, keep=["head"])
    assert list(result.layers) == ["last"]
    told = result.left_alone
    assert told["embed"].startswith("Embedding is neither")
    assert "is also 'embed.weight'" in told["project"]
    assert "ParametrizedLinear is neither" in told["normed"]
    assert told["unused"] == "it was not called for the example"
    assert "is also 'same.weight'" in told["twice"]
    assert "GRU is neither" in told["recur"]
    assert "uses it beside calling it" in told["attend.linear1"]
    assert "NonDynamicallyQuantizableLinear" in told["attend.self_attn.out_proj"]
    assert told["head"] == "kept, as asked"


def test_fewer_parameters_with_more_multiplications_are_no_gain() -> None:
    """A stride: what comes before it runs at more positions than the layer that it replaces."""
    layer = nn.Conv2d(32, 32, 2, stride=2)
    with torch.no_grad():
        layer.weight.copy_(torch.einsum("orkl,ri->oikl", torch.randn(32, 20, 2, 2), torch.randn(20, 32)))
    energy = 1.0 - 1e-9
    assert Candidate(layer, inputs=100, outputs=100).ranks_for(energy) == (32, 20)
    assert Candidate(layer, inputs=400, outputs=100).ranks_for(energy) is None


def test_groups_and_layers_that_would_become_dearer_are_left_alone() -> None:
    network = nn.Sequential(convolutional(), nn.Linear(20, 1))
    result = made(network, energy=0.6)
    assert result.left_alone["0.4"] == "a convolution in 24 groups"
    assert result.left_alone["1"] == "no cheaper when it keeps 0.6"


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("network", "size"),
    [
        (lambda: torchvision.models.resnet18(num_classes=10), 64),
        (lambda: torchvision.models.mobilenet_v2(num_classes=10), 64),
        (lambda: torchvision.models.VisionTransformer(64, 16, 2, 4, 64, 256, num_classes=10), 64),
        (lambda: timm.create_model("vit_tiny_patch16_224", num_classes=10, img_size=64), 64),
    ],
)
def test_real_networks_to_half_of_their_multiplications(network, size) -> None:
    result = checked(network(), torch.rand(2, 3, size, size), target={"macs": 0.5})
    assert 0.45 * result.before.macs < result.after.macs <= 0.5 * result.before.macs


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({}, "either an energy to keep"),
        ({"energy": 0.5, "target": {"macs": 0.5}}, "either an energy"),
        ({"energy": 1.5}, "above 0 and up to 1, got 1.5"),
        ({"target": {"macs": 2.0}}, r"target such as \{'macs': 0.5\}.*got \{'macs': 2.0\}"),
        ({"target": {"flops": 0.5}}, "'params': 0.5}, got {'flops'"),
        ({"target": {}}, "expected a target"),
        ({"target": {"macs": 0.01}}, r"cannot be met: with rank 1 everywhere.* of the macs \(asked: 0.01\)"),
        ({"energy": 1.0}, r"no layer becomes cheaper while it keeps 1 .*the first one does at 0\.\d+"),
        ({"energy": 0.5, "keep": ["77"]}, "the network to factorise has no layer '77'"),
        ({"energy": 0.5, "keep": ["0", "2", "5", "7"]}, "no layer that can be factorised.*kept, as asked"),
    ],
)
def test_bad_input(wanted, message) -> None:
    with pytest.raises(InputError, match=message):
        made(convolutional(), **wanted)


def test_weights_that_are_not_finite_and_a_network_that_is_one_layer() -> None:
    network = convolutional()
    with torch.no_grad():
        network[2].weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="layer '2' has values that are not finite"):
        made(network, energy=0.5)
    with pytest.raises(InputError, match="it is the whole network"):
        made(nn.Linear(8, 8), torch.rand(2, 8), energy=0.5)


class Peeking(nn.Module):
    """Uses the weights of its layers beside calling them, but only where one of them has another one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, values: Tensor) -> Tensor:
        kinds = {type(self.first), type(self.second)}
        if kinds == {nn.Sequential}:
            raise RuntimeError("one of them must be linear")
        return self.second(self.first(values))


def test_a_network_that_cannot_do_without_its_layers_together_is_named() -> None:
    with pytest.raises(InputError, match=r"one of them must be linear.*under keep; tried 'first', 'second'"):
        made(Peeking(), torch.rand(2, 8), energy=0.3)
    assert list(made(Peeking(), torch.rand(2, 8), energy=0.3, keep=["second"]).layers) == ["first"]
