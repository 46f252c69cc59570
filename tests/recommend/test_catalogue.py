"""What the libraries publish, the smaller copies of a teacher, and how recipes write both."""

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from understudy.recommend.catalogue import _TIMM, catalogue, described_for, expected_macs, published_for
from understudy.recommend.copies import smaller_copies
from understudy.sources import build_model
from understudy.sources.model_specs import (
    BuiltinModel,
    PythonModel,
    TimmModel,
    TorchvisionModel,
    TransformersModel,
)

IMAGES, SMALL, TINY = (torch.rand(1, 3, side, side) for side in (224, 32, 8))


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_published_numbers_are_there_and_plausible() -> None:
    known = {(each.source, each.name): each for each in catalogue()}
    resnet = known["torchvision", "resnet18"]
    assert (resnet.parameters, resnet.top1) == (11_689_512, 69.758)
    assert resnet.macs == pytest.approx(1.814e9)
    assert all(30 < each.top1 < 95 and each.macs > 1e6 for each in known.values())
    assert len(known) > 80


@pytest.mark.parametrize("name", ["lcnet_050", "regnety_002"])
def test_the_table_is_what_timm_builds(name) -> None:
    with torch.device("meta"):
        model = timm.create_model(name).eval()
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            model(torch.empty(1, 3, 224, 224))
    size, macs, _ = _TIMM[name]
    assert size == pytest.approx(parameters(model) / 1e6, abs=0.006)
    assert macs == pytest.approx(counter.get_total_flops() / 2e6, abs=0.06)


def test_every_name_of_the_table_is_a_model_of_timm() -> None:
    assert [name for name in _TIMM if not timm.is_model(name)] == []


def test_what_is_known_of_a_teacher() -> None:
    assert published_for(TorchvisionModel(name="resnet50")).top1 == 76.13
    assert published_for(TimmModel(name="resnet50.a1_in1k")).name == "resnet50"
    assert published_for(TimmModel(name="resnet18", arguments={"channels": [8, 8, 8, 8]})) is None
    assert published_for(BuiltinModel(name="mlp", arguments={"hidden": [4]})) is None


def test_images_decide_which_architectures_fit() -> None:
    known = {each.name: each for each in catalogue()}
    assert described_for(known["resnet18"], IMAGES) == TorchvisionModel(name="resnet18")
    assert described_for(known["lcnet_050"], IMAGES) == TimmModel(name="lcnet_050")
    assert described_for(known["resnet18"], SMALL) == TorchvisionModel(name="resnet18", small_images=True)
    assert described_for(known["lcnet_050"], SMALL) is described_for(known["vit_b_16"], SMALL) is None
    assert described_for(known["resnet18"], TINY) is None
    assert described_for(known["resnet18"], {"input_ids": torch.zeros(1, 4)}) is None
    model = build_model(TorchvisionModel(name="resnet18", small_images=True), classes=10, inputs=SMALL).eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(SMALL)
    assert expected_macs(known["resnet18"], SMALL) == pytest.approx(counter.get_total_flops() / 2, rel=0.2)


@pytest.mark.parametrize(
    ("spec", "inputs", "count"),
    [
        (BuiltinModel(name="mlp", arguments={"hidden": [64, 48]}), TINY, 5),
        (BuiltinModel(name="cnn", arguments={"widths": [16, 32]}), TINY, 5),
        (BuiltinModel(name="mlp", arguments={"hidden": []}), TINY, 0),
        (PythonModel(target="test_catalogue_nets:small"), TINY, 4),
        pytest.param(
            TransformersModel(config="vit", arguments={"image_size": 8, "patch_size": 4, "num_hidden_layers": 2}),
            TINY,
            3,
            marks=pytest.mark.e2e,
        ),
        (TorchvisionModel(name="mobilenet_v3_small"), SMALL, 3),
        (TorchvisionModel(name="alexnet"), IMAGES, 0),
    ],
)
def test_copies_are_smaller_than_the_teacher(spec, inputs, count, tmp_path, monkeypatch) -> None:
    (tmp_path / "test_catalogue_nets.py").write_text(
        "from torch import nn\n"
        "def small(width=16, depth=4, classes=10):\n"
        "    inner = [nn.Linear(width, width) for _ in range(depth)]\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(192, width), *inner, nn.Linear(width, classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    copies = list(smaller_copies(spec))
    assert len(copies) == count
    if not copies:
        return
    whole = parameters(build_model(spec, classes=10, inputs=inputs))
    sizes = [parameters(build_model(each, classes=10, inputs=inputs)) for each, _ in copies]
    assert all(size < whole for size in sizes)
    assert len({words for _, words in copies}) == count


@pytest.mark.e2e
@pytest.mark.parametrize(
    "spec",
    [TorchvisionModel(name="resnet18"), TorchvisionModel(name="resnet50"), TimmModel(name="deit_tiny_patch16_224")],
)
def test_copies_of_large_networks_can_be_built(spec) -> None:
    whole = parameters(build_model(spec, classes=10, inputs=IMAGES))
    for each, words in smaller_copies(spec):
        assert parameters(build_model(each, classes=10, inputs=IMAGES)) < whole, words
