"""Smaller copies of networks of every kind."""

import pytest
import timm
import torch
import torchvision
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from understudy.batch import Batch
from understudy.edits import Shallower
from understudy.errors import InputError
from understudy.sources import BuiltinModel, TimmModel, build_model, load_artifact, save_artifact
from understudy.tasks import Classification, ImageClassification
from understudy.transfer import scaled_copy
from understudy.transfer.sources import random_copy

IMAGES = torch.rand(2, 3, 32, 32)
IDS = {"input_ids": torch.randint(0, 50, (2, 7)), "attention_mask": torch.ones(2, 7, dtype=torch.long)}


def bert() -> nn.Module:
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 50}
    return BertForSequenceClassification(BertConfig(num_hidden_layers=6, num_labels=3, **sizes))


def logits(network: nn.Module, inputs: object) -> torch.Tensor:
    with torch.no_grad():
        return Classification().observe(network.eval(), Batch(inputs=inputs)).logits


def vision_transformer() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=4, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=3
    )


# What is left of the blocks at half the depth: the rows that lost some, before and after.
HALVED = {
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=3), {f"layer{n}": (2, 1) for n in range(1, 5)}),
    "resnext50": (
        lambda: torchvision.models.resnext50_32x4d(num_classes=3),
        {"layer1": (3, 2), "layer2": (4, 2), "layer3": (6, 3), "layer4": (3, 2)},
    ),
    "mobilenet_v2": (lambda: torchvision.models.mobilenet_v2(num_classes=3), {"features": (15, 9)}),
    "efficientnet": (
        lambda: torchvision.models.efficientnet_b0(num_classes=3),
        {
            f"features.{n}": sizes
            for n, sizes in zip(range(2, 7), [(2, 1), (2, 1), (3, 2), (3, 2), (4, 2)], strict=True)
        },
    ),
    "convnext": (lambda: timm.create_model("convnext_atto", num_classes=3), None),
    "vision_transformer": (vision_transformer, {"encoder.layers": (4, 2)}),
    "bert": (bert, {"bert.encoder.layer": (6, 3)}),
}


@pytest.mark.parametrize("name", HALVED)
def test_half_the_blocks_at_half_the_width(name) -> None:
    make, rows = HALVED[name]
    network = make().eval()
    inputs = IDS if name == "bert" else IMAGES
    made = scaled_copy(network, Batch(inputs=inputs), task=Classification(), width=0.5, depth=0.5)
    assert logits(made.network, inputs).shape == logits(network, inputs).shape
    assert rows is None or made.blocks == rows
    assert made.blocks
    assert made.after.macs < 0.6 * made.before.macs
    assert [edit.kind for edit in made.edits] == ["shallower", "resized"]
    again = make()
    for edit in made.edits:
        again = edit.replay(again, inputs)
    again.load_state_dict(made.network.state_dict())
    assert torch.equal(logits(again, inputs), logits(made.network, inputs))


def test_heads_and_groups_stay_whole() -> None:
    made = scaled_copy(bert(), Batch(inputs=IDS), task=Classification(), width=0.5)
    assert made.widths["bert.encoder.layer.0.attention.self"] == (4, 2)
    grouped = scaled_copy(torchvision.models.resnext50_32x4d(num_classes=3), IMAGES, task=Classification(), width=0.5)
    for layer in grouped.network.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.in_channels % layer.groups == layer.out_channels % layer.groups == 0


def test_the_blocks_that_stay_compute_what_they_did() -> None:
    network = _Row().eval()
    vectors = torch.rand(2, 4)
    made = scaled_copy(network, vectors, task=Classification(), depth=0.6)
    assert made.blocks == {"row": (5, 3)}
    assert torch.equal(made.network(vectors), network.row[4](network.row[2](network.row[0](vectors))))
    assert len(network.row) == 5


class _Row(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.row = nn.ModuleList(_Block() for _ in range(5))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        for block in self.row:
            inputs = block(inputs)
        return inputs


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.inner(inputs)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"width": 0.05}, "a width of 0.1 to 1"),
        ({"depth": 0.0}, "a depth above 0 to 1"),
        ({"depth": 0.99}, "none can leave at this depth"),
    ],
)
def test_what_cannot_be(shares, message) -> None:
    network = torchvision.models.resnet18(num_classes=3)
    with pytest.raises(InputError, match=message):
        scaled_copy(network, IMAGES, task=Classification(), **shares)


def test_a_network_without_blocks_has_no_depth() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(InputError, match="none gives what it is given in the same shape"):
        scaled_copy(network, IMAGES, task=Classification(), depth=0.5)


def test_an_edit_about_a_block_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="about the block '7'"):
        Shallower(rows={"": ("0", "7")}).replay(nn.Sequential(nn.Linear(2, 2)), None)


@pytest.mark.parametrize(
    "spec",
    [
        BuiltinModel(name="resnet", arguments={"widths": [8, 16], "blocks": 2}),
        TimmModel(name="convnext_atto"),
    ],
    ids=["resnet", "convnext"],
)
def test_a_saved_copy_is_loaded_again_and_can_begin_at_random(spec, tmp_path) -> None:
    network = build_model(spec, classes=("a", "b", "c"), inputs=IMAGES).eval()
    save_artifact(tmp_path / "whole", network, spec=spec, classes=("a", "b", "c"), inputs=IMAGES)
    made = scaled_copy(network, IMAGES, task=ImageClassification(), width=0.5, depth=0.5)
    folder = tmp_path / "copy"
    save_artifact(folder, made.network, spec=spec, classes=("a", "b", "c"), inputs=IMAGES, edits=made.edits)
    with torch.no_grad():
        assert torch.equal(load_artifact(folder).module.eval()(IMAGES), made.network(IMAGES))
    torch.manual_seed(5)
    begun = random_copy(tmp_path / "whole", made.edits)
    for (name, random), (_, taken) in zip(begun.named_parameters(), made.network.named_parameters(), strict=True):
        assert random.shape == taken.shape, name
        if random.ndim > 1:
            assert random.any(), f"{name} was left with zeros"
            assert not torch.equal(random, taken), f"{name} is the teacher's"
