"""Networks of libraries as rows of units, from the inputs to the head."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from understudy.errors import InputError
from understudy.transfer import units_of


def names(network: nn.Module) -> list[str]:
    return [unit.name for unit in units_of(network)]


@pytest.mark.parametrize(
    ("build", "count", "first", "last"),
    [
        (torchvision.models.resnet18, 10, "conv1", "fc"),
        (torchvision.models.mobilenet_v2, 20, "features.0.0", "classifier.1"),
        (torchvision.models.vgg11_bn, 11, "features.0", "classifier.6"),
        (torchvision.models.vit_b_16, 14, "conv_proj", "heads.head"),
        (torchvision.models.efficientnet_b0, 19, "features.0.0", "classifier.1"),
        (torchvision.models.convnext_tiny, 23, "features.0.0", "classifier.2"),
    ],
)
def test_networks_of_torchvision(build, count, first, last) -> None:
    with torch.device("meta"):
        found = names(build())
    assert (len(found), found[0], found[-1]) == (count, first, last)


def test_a_vision_transformer_of_timm() -> None:
    with torch.device("meta"):
        units = units_of(timm.create_model("vit_tiny_patch16_224"))
    assert [unit.name for unit in units] == ["patch_embed", *(f"blocks.{place}" for place in range(12)), "head"]
    assert {"cls_token", "pos_embed"} <= set(units[0].parameters)
    assert "norm.weight" in units[-2].parameters


def test_an_encoder_of_transformers() -> None:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, vocab_size=99)
    assert names(BertForSequenceClassification(config)) == [
        "bert.embeddings",
        *(f"bert.encoder.layer.{place}" for place in range(3)),
        "bert.pooler",
        "classifier",
    ]


@pytest.mark.parametrize(
    "build", [torchvision.models.resnet18, torchvision.models.swin_t, torchvision.models.densenet121]
)
def test_every_parameter_belongs_to_one_unit(build) -> None:
    with torch.device("meta"):
        network = build()
    found = [name for unit in units_of(network) for name in unit.parameters]
    assert sorted(found) == sorted(name for name, _ in network.named_parameters())


def test_shared_parameters_belong_to_the_first_that_has_them() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    units = units_of(nn.Sequential(first, second))
    assert [unit.parameters for unit in units] == [("0.weight", "0.bias"), ("1.bias",)]


def test_a_network_without_parameters_is_refused() -> None:
    with pytest.raises(InputError, match="no parameters"):
        units_of(nn.ReLU())


def test_every_buffer_belongs_to_the_unit_of_its_layer() -> None:
    with torch.device("meta"):
        network = torchvision.models.resnet18()
    units = units_of(network)
    assert sorted(name for unit in units for name in unit.buffers) == sorted(
        name for name, _ in network.named_buffers()
    )
    assert units[0].buffers == ("bn1.running_mean", "bn1.running_var", "bn1.num_batches_tracked")
    assert "layer1.1.bn2.running_var" in next(unit for unit in units if unit.name == "layer1.1").buffers


def test_statistics_without_weights_belong_to_the_unit_before_them() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=False), nn.Flatten(), nn.Linear(8, 2))
    assert [(unit.name, len(unit.buffers)) for unit in units_of(network)] == [("0", 3), ("3", 0)]
