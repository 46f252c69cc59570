"""Which layers belong together, on the families that people distill."""

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from understudy import Batch, Classification, InputError
from understudy.distiller import pairs_of
from understudy.knowledge import Attention
from understudy.pairing import Anatomy, anatomy
from understudy.teachers import Ensemble, ModuleTeacher

IMAGES = torch.zeros(2, 3, 64, 64)


def torchvision_model(name: str) -> nn.Module:
    options = {"image_size": 64} if name.startswith("vit") else {}
    return getattr(torchvision.models, name)(num_classes=7, **options)


def timm_model(name: str) -> nn.Module:
    options = {"img_size": 64} if name.startswith(("vit", "deit")) else {}
    return timm.create_model(name, num_classes=7, **options)


def examined(model: nn.Module, inputs: Tensor = IMAGES) -> Anatomy:
    return anatomy(model.eval(), lambda inner: inner(inputs))


@pytest.mark.parametrize(
    ("build", "name", "stages", "penultimate"),
    [
        (torchvision_model, "resnet18", ["relu", "layer1", "layer2", "layer3", "layer4"], "avgpool"),
        (torchvision_model, "resnet50", ["relu", "layer1", "layer2", "layer3", "layer4"], "avgpool"),
        (
            torchvision_model,
            "vgg11_bn",
            ["features.2", "features.6", "features.13", "features.20", "features.27", "features"],
            "classifier.4",
        ),
        (
            torchvision_model,
            "mobilenet_v2",
            ["features.1", "features.3", "features.6", "features.13", "features"],
            "features",
        ),
        (
            torchvision_model,
            "efficientnet_b0",
            ["features.1", "features.2", "features.3", "features.5", "features"],
            "avgpool",
        ),
        (torchvision_model, "convnext_tiny", ["features.1", "features.3", "features.5", "features"], "classifier.1"),
        (timm_model, "resnet18", ["act1", "layer1", "layer2", "layer3", "layer4"], "global_pool"),
        (timm_model, "mobilenetv2_100", ["blocks.0", "blocks.1", "blocks.2", "blocks.4", "bn2"], "global_pool"),
        (timm_model, "efficientnet_b0", ["blocks.0", "blocks.1", "blocks.2", "blocks.4", "bn2"], "global_pool"),
        (timm_model, "convnext_atto", ["stages.0", "stages.1", "stages.2", "stages"], "head.pre_logits"),
    ],
)
def test_a_stage_is_the_last_output_of_its_resolution(build, name, stages, penultimate) -> None:
    found = examined(build(name))
    assert [output.path for output in found.stages] == stages
    assert not found.are_blocks
    assert found.penultimate.path == penultimate
    sizes = [output.shape[-1] for output in found.stages]
    assert sizes == sorted(set(sizes), reverse=True)


@pytest.mark.parametrize(
    ("build", "name", "blocks"),
    [
        (torchvision_model, "vit_b_16", "encoder.layers.encoder_layer_"),
        (timm_model, "vit_tiny_patch16_224", "blocks."),
        (timm_model, "deit_tiny_distilled_patch16_224", "blocks."),
    ],
)
def test_a_transformer_has_blocks(build, name, blocks) -> None:
    found = examined(build(name))
    assert found.are_blocks
    assert [output.path for output in found.stages] == [f"{blocks}{index}" for index in range(12)]
    assert found.penultimate.shape[-1] == found.stages[-1].shape[-1]


def bert(layers: int, attention: str = "sdpa") -> nn.Module:
    sizes = {"hidden_size": 8, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": 16}
    return BertForSequenceClassification(BertConfig(vocab_size=9, attn_implementation=attention, **sizes))


def distilbert(attention: str = "sdpa") -> nn.Module:
    config = DistilBertConfig(vocab_size=9, dim=8, n_layers=2, n_heads=2, attn_implementation=attention)
    return DistilBertForSequenceClassification(config)


def test_encoders_are_paired_by_evenly_spaced_blocks() -> None:
    pairs = pairs_of(distilbert(), bert(6), Batch({"input_ids": torch.ones(2, 5, dtype=torch.int64)}), Classification())
    assert pairs.stages == (
        ("distilbert.transformer.layer.0", "bert.encoder.layer.2"),
        ("distilbert.transformer.layer.1", "bert.encoder.layer.5"),
    )
    assert pairs.penultimate == (("pre_classifier", "bert.pooler"),)


@pytest.mark.parametrize(
    ("build", "path", "projections", "matrices"),
    [
        (lambda: bert(2), "bert.encoder.layer.1.attention.self", ("query", "key", "value"), None),
        (lambda: bert(2, "eager"), "bert.encoder.layer.1.attention.self", ("query", "key", "value"), ":1"),
        (lambda: distilbert("eager"), "distilbert.transformer.layer.1.attention", ("q_lin", "k_lin", "v_lin"), ":1"),
    ],
    ids=["bert", "bert that shows its matrices", "distilbert"],
)
def test_attention_layers_are_found_with_what_makes_queries_keys_and_values(build, path, projections, matrices) -> None:
    model = build()
    tokens = Batch({"input_ids": torch.ones(2, 5, dtype=torch.int64)})
    pairs = pairs_of(model, bert(3), tokens, Classification())
    assert [len(side) for side in pairs.attentions] == [2, 3]
    found = pairs.attention(0, path.rpartition(".attention")[0])
    assert found is pairs.attentions[0][1]
    assert found == Attention(path, tuple(f"{path}.{name}" for name in projections), matrices and path + matrices)
    assert pairs.attention(0, path) == pairs.attention(0, found.projections[2]) == found
    assert pairs.attention(0, "bert.encoder") is pairs.attention(1, "bert.encoder.layer.7") is None


@pytest.mark.parametrize(
    ("model", "projections"),
    [
        (timm_model("vit_tiny_patch16_224"), [f"blocks.{block}.attn.qkv" for block in range(12)]),
        (torchvision_model("vit_b_32"), []),
        (torchvision_model("resnet18"), []),
    ],
    ids=["timm's", "torchvision's", "none"],
)
def test_one_layer_may_make_all_three(model, projections) -> None:
    found = examined(model).attentions
    assert [attention.projections for attention in found] == [(path,) for path in projections]
    assert all(attention.matrices is None for attention in found)


def test_convolutional_networks_are_paired_from_the_end() -> None:
    pairs = pairs_of(torchvision_model("mobilenet_v2"), torchvision_model("resnet18"), Batch(IMAGES), Classification())
    assert pairs.stages == (
        ("features.3", "layer1"),
        ("features.6", "layer2"),
        ("features.13", "layer3"),
        ("features", "layer4"),
    )


def test_a_transformers_blocks_are_spread_over_stages() -> None:
    pairs = pairs_of(torchvision_model("resnet18"), timm_model("vit_tiny_patch16_224"), Batch(IMAGES), Classification())
    assert [teacher for _, teacher in pairs.stages] == ["blocks.2", "blocks.5", "blocks.8", "blocks.11"]


@pytest.mark.parametrize(
    ("build", "name", "classifier"),
    [
        (torchvision_model, "resnet18", "fc"),
        (torchvision_model, "mobilenet_v2", "classifier.1"),
        (timm_model, "vit_tiny_patch16_224", "head"),
        (timm_model, "deit_tiny_distilled_patch16_224", None),  # the mean of two
        (torchvision_model, "squeezenet1_1", None),  # its scores are averaged afterwards
        (timm_model, "convnext_atto", "head.fc"),
    ],
)
def test_a_classifier_is_the_linear_layer_that_alone_gives_the_logits(build, name, classifier) -> None:
    found = examined(build(name)).classifier
    assert (found.path if found else None) == classifier


def test_classifiers_are_paired_where_both_have_one() -> None:
    resnet, deit = torchvision_model("resnet18"), timm_model("deit_tiny_distilled_patch16_224")
    pairs = pairs_of(torchvision_model("mobilenet_v2"), resnet, Batch(IMAGES), Classification())
    assert pairs.classifier == (("classifier.1", "fc"),)
    assert pairs_of(resnet, deit, Batch(IMAGES), Classification()).classifier == ()


class InPlace(nn.Module):
    """Its convolution's output is overwritten by the activation, its block's by an addition."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8, 7)

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.relu(self.second(self.act(self.first(images))), inplace=True)
        return self.fc(hidden.mean((2, 3)))


def test_what_a_later_layer_overwrites_is_not_chosen() -> None:
    found = examined(InPlace())
    assert [output.path for output in found.stages] == ["act"]


def test_a_network_of_vectors_has_its_penultimate_features() -> None:
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 7))
    found = examined(mlp, torch.zeros(2, 3, 2, 2))
    assert found.penultimate.path == "2"
    assert [output.path for output in found.stages] == ["2"]


def test_looking_leaves_the_networks_as_they_were() -> None:
    student, teacher = torchvision_model("resnet18").train(), torchvision_model("resnet18").train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    images = torch.rand(2, 3, 64, 64)
    state = torch.get_rng_state()
    pairs_of(student, teacher, Batch(images), Classification())
    assert torch.equal(torch.get_rng_state(), state)
    assert student.training
    assert teacher.training
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in student.modules())


def test_a_teacher_without_layers_is_refused() -> None:
    member = ModuleTeacher(torchvision_model("resnet18"), task=Classification())
    with pytest.raises(InputError, match="Ensemble has no layers to pair"):
        pairs_of(torchvision_model("resnet18"), Ensemble([member]), Batch(IMAGES), Classification())
