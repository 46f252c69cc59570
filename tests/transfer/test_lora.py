"""Low-rank factors beside the layers of a trained network, merged when they have learnt."""

import copy

import pytest
import torch
import torchvision
from pydantic import ValidationError
from torch import nn

from understudy.errors import InputError
from understudy.transfer import Lora, Tuning, merge_factors, pace_of, put_factors_beside


class Encoder(nn.Module):
    """PyTorch's own layers, which read weights without calling layers where they can."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True), 2)
        self.head = nn.Linear(16, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(inputs).mean(1))


def vision_transformer() -> nn.Module:
    network = torchvision.models.VisionTransformer(
        image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=3
    )
    nn.init.normal_(network.heads.head.weight)  # zeros, as torchvision makes it
    return network


def convolutions() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.Flatten(), nn.Linear(288, 3))


IMAGES, VECTORS, SMALL = torch.randn(4, 3, 16, 16), torch.randn(4, 5, 16), torch.randn(4, 3, 10, 10)
NETWORKS = {
    "vision_transformer": (vision_transformer, IMAGES, Lora(rank=2)),
    "fused": (Encoder, VECTORS, Lora(rank=2, alpha=1.0)),
    "convolutions": (convolutions, SMALL, Lora(rank=2, layers=("0",))),
}


def learnt(network: nn.Module) -> nn.Module:
    """Factors that have become something."""
    torch.manual_seed(1)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_computes_what_it_did_until_the_factors_learn(name) -> None:
    make, inputs, lora = NETWORKS[name]
    network = make().eval()
    before = network(inputs)
    assert torch.equal(put_factors_beside(network, lora).eval()(inputs), before)
    assert not torch.allclose(learnt(network)(inputs), before, atol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_evaluation_and_the_merged_network_agree(name) -> None:
    make, inputs, lora = NETWORKS[name]
    network = learnt(put_factors_beside(make(), lora))
    trained = network.train()(inputs)
    with torch.no_grad():
        validated = network.eval()(inputs)
    torch.testing.assert_close(validated, trained, atol=1e-5, rtol=1e-5)
    merged = merge_factors(copy.deepcopy(network))
    torch.testing.assert_close(merged.eval()(inputs), trained, atol=1e-5, rtol=1e-5)
    assert list(merged.state_dict()) == list(make().state_dict())
    assert {type(layer) for layer in merged.modules()} == {type(layer) for layer in make().modules()}


def test_every_factor_gets_a_gradient() -> None:
    network = learnt(put_factors_beside(vision_transformer(), Lora(rank=2)))
    network(IMAGES).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters() if "lora_" in name}
    assert len(gradients) == 8  # two factors of two layers of two blocks
    assert all(gradient is not None and gradient.any() for gradient in gradients.values())


def test_nothing_but_factors_and_head_trains() -> None:
    network = put_factors_beside(vision_transformer(), Lora())
    pace = pace_of(Tuning(lora=Lora(), probe=0.25), network)
    pace.check(network)
    trained = {name for name, _ in network.named_parameters() if pace.factors.get(name, 1.0)}
    assert trained - set(pace.begins) == {"heads.head.weight", "heads.head.bias"}
    assert set(pace.begins) == {name for name in trained if "lora_" in name}
    assert set(pace.begins.values()) == {0.25}
    assert all(parameter.requires_grad for parameter in network.parameters())  # until the pace says otherwise


@pytest.mark.parametrize(
    ("make", "layers", "message"),
    [
        (vision_transformer, ("*.mpl.0",), "matches no linear layer, convolution or embedding"),
        (vision_transformer, ("heads.head",), "which is the head"),
        (vision_transformer, ("*.out_proj",), "reads without calling it"),
        (convolutions, ("2",), "a convolution in groups"),
        (lambda: nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(9, 3)), None, "no linear layer but its"),
    ],
)
def test_what_factors_cannot_stand_beside(make, layers, message) -> None:
    with pytest.raises(InputError, match=message):
        put_factors_beside(make(), Lora(layers=layers))


def test_a_mistyped_layer_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"nearest: 'encoder.layers.encoder_layer_0.mlp.0'"):
        put_factors_beside(vision_transformer(), Lora(layers=("encoder.layers.encoder_layer_0.mpl.0",)))


@pytest.mark.parametrize("other", [{"freeze": 1}, {"decay": 0.5}, {"gradual": 0.2}, {"l2_sp": 0.1}])
def test_other_ways_to_keep_weights_make_no_sense_beside_factors(other) -> None:
    with pytest.raises(ValidationError, match="with lora the weights stay as they are"):
        Tuning(lora=Lora(), **other)
