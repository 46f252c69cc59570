"""Models from every source, and every way in which a source can be wrong."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torchvision
from pydantic import TypeAdapter, ValidationError
from torch import nn

from understudy.errors import InputError
from understudy.sources import (
    AnyModel,
    BuiltinModel,
    ModelSpec,
    Preprocess,
    PythonModel,
    TimmModel,
    TorchvisionModel,
    TransformersModel,
    build_model,
    check_model,
    describe,
    preprocess_of,
)
from understudy.sources.hub import cache_when_unreachable, reachable

RECIPE: TypeAdapter[ModelSpec] = TypeAdapter(AnyModel)
COLOUR = torch.rand(2, 3, 32, 32)
GREY = torch.rand(2, 1, 16, 16)
TINY_VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "patch_size": 4,
}


def scores(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    output = model.eval()(inputs)
    return output if isinstance(output, torch.Tensor) else output.logits


@pytest.mark.parametrize(
    ("entry", "inputs"),
    [
        ({"source": "understudy", "name": "mlp", "arguments": {"hidden": [8, 4], "dropout": 0.5}}, GREY),
        ({"source": "understudy", "name": "mlp", "arguments": {"hidden": []}}, torch.rand(3, 7)),
        ({"source": "understudy", "name": "cnn", "arguments": {"widths": [4, 4, 4, 4, 4, 4]}}, torch.rand(2, 1, 8, 8)),
        ({"source": "torchvision", "name": "mobilenet_v2", "small_images": True}, COLOUR),
        ({"source": "torchvision", "name": "resnet18", "small_images": True}, GREY),
        ({"source": "torchvision", "name": "squeezenet1_1"}, COLOUR),
        ({"source": "timm", "name": "resnet10t"}, GREY),
        ({"source": "transformers", "config": "vit", "arguments": TINY_VIT}, GREY),
    ],
    ids=lambda value: value["name" if "name" in value else "config"] if isinstance(value, dict) else "",
)
def test_a_recipes_entry_gives_a_network_for_the_data(entry, inputs):
    spec = RECIPE.validate_python(entry)
    model = build_model(spec, classes=7, inputs=inputs)
    assert model.training
    assert scores(model, inputs).shape == (len(inputs), 7)
    assert RECIPE.validate_json(spec.model_dump_json()) == spec


def test_small_images_keep_their_size():
    for name, layer in (("resnet18", "layer1"), ("mobilenet_v2", "features.0"), ("densenet121", "features.pool0")):
        model = build_model(TorchvisionModel(name=name, small_images=True), classes=3, inputs=COLOUR).eval()
        seen = []
        model.get_submodule(layer).register_forward_hook(
            lambda _module, _inputs, output, seen=seen: seen.append(output)
        )
        model(COLOUR)
        assert seen[0].shape[-2:] == (32, 32), name


def test_pretrained_weights_bring_their_head_and_normalisation(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    theirs = torchvision.models.squeezenet1_1()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(theirs.state_dict(), tmp_path / "hub" / "checkpoints" / weights.url.rpartition("/")[2])

    spec = TorchvisionModel(name="squeezenet1_1", weights="DEFAULT")
    same = build_model(spec, classes=1000, inputs=COLOUR).eval()
    normalized = (COLOUR - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    torch.testing.assert_close(same(COLOUR), theirs.eval()(normalized))

    other = build_model(spec, classes=4, inputs=COLOUR)
    assert scores(other, COLOUR).shape == (2, 4)
    assert torch.equal(other.features[0].weight, theirs.features[0].weight)
    assert preprocess_of(other) == Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    with pytest.raises(InputError, match="are for colour images, the data have 1 channels"):
        build_model(spec, classes=4, inputs=torch.rand(2, 1, 32, 32))


def test_a_saved_transformers_model_comes_back_with_a_new_head(tmp_path):
    fresh = build_model(TransformersModel(config="vit", arguments=TINY_VIT), classes=7, inputs=GREY)
    fresh.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5], "image_std": [0.25]}')
    spec = TransformersModel(name=str(tmp_path))
    same = build_model(spec, classes=7, inputs=GREY)
    torch.testing.assert_close(scores(same, GREY), scores(fresh, (GREY - 0.5) / 0.25))
    other = build_model(spec, classes=3, inputs=GREY)
    assert scores(other, GREY).shape == (2, 3)
    assert torch.equal(other.state_dict()[key := next(iter(fresh.state_dict()))], fresh.state_dict()[key])


def test_a_sequence_classifier_takes_named_inputs():
    arguments = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    spec = TransformersModel(config="bert", head="sequence_classification", arguments=arguments | {"vocab_size": 30})
    inputs = {"input_ids": torch.ones(2, 5, dtype=torch.int64), "attention_mask": torch.ones(2, 5, dtype=torch.int64)}
    model = build_model(spec, classes=4, inputs=inputs)
    assert model.eval()(**inputs).logits.shape == (2, 4)


@pytest.fixture
def own_code(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "own_networks.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def make(width, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.Linear(width, classes))\n"
        "def five(): return nn.Sequential(nn.Flatten(), nn.LazyLinear(5))\n"
        "def number(): return 3\n"
        "def broken(): raise ValueError('no luck')\n"
        "class Nets:\n    @staticmethod\n    def small(num_classes): return make(2, num_classes)\n"
    )
    (tmp_path / "own_broken.py").write_text("import not_a_package_at_all\n")
    yield tmp_path
    for name in ("own_networks", "own_broken"):
        sys.modules.pop(name, None)


def test_a_python_target_in_the_current_directory(own_code):
    path = list(sys.path)
    model = build_model(PythonModel(target="own_networks:make", arguments={"width": 6}), classes=4, inputs=GREY)
    assert scores(model, GREY).shape == (2, 4)
    assert not any(isinstance(parameter, nn.UninitializedParameter) for parameter in model.parameters())
    build_model(PythonModel(target="own_networks:Nets.small"), classes=4, inputs=GREY)
    assert sys.path == path


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (PythonModel(target="own_network:make"), r"no python module 'own_network'.*nearest: 'own_networks'"),
        (PythonModel(target="own_networks.inner:make"), r"no python module 'own_networks.inner'"),
        (PythonModel(target="own_networks:mak"), r"no callable 'mak'; nearest: 'make'"),
        (
            PythonModel(target="own_networks:make"),
            r"missing a required argument: 'width'.*signature is \(width, classes\)",
        ),
        (
            PythonModel(target="own_networks:make", arguments={"widht": 3}),
            r"missing a required argument: 'width'; nearest: 'width'",
        ),
        (PythonModel(target="own_networks:number"), r"returned int, expected a torch.nn.Module"),
        (PythonModel(target="own_networks:broken"), r"failed: ValueError: no luck \(.*own_networks.py, line 7\)"),
        (PythonModel(target="own_networks:five"), r"gives 5 scores per sample, the data have 4 classes"),
        (PythonModel(target="own_broken:make"), r"imports 'not_a_package_at_all', which is not installed"),
        (TorchvisionModel(name="resnet17"), r"no classifier 'resnet17'; nearest: 'resnet1"),
        (TorchvisionModel(name="resnet18", weights="IMAGENET1K_V9"), r"no weights 'IMAGENET1K_V9'.*'IMAGENET1K_V1'"),
        (TorchvisionModel(name="mobilenet_v2", arguments={"width_mul": 2.0}), r"nearest: 'width_mult'"),
        (TorchvisionModel(name="vit_b_16", small_images=True), r"not for vit_b_16"),
        (TimmModel(name="resnet10x"), r"timm has no model 'resnet10x'; nearest: 'resnet10t'"),
        (TimmModel(name="hf-hub:someone/net"), r"expected a model's own name"),
        (TimmModel(name="resnet10t", arguments={"drop_rat": 0.1}), r"unexpected keyword argument 'drop_rat'; nearest"),
        (TimmModel(name="vit_tiny_patch16_224"), r"cannot take these inputs \(shape \(N, 1, 16, 16\)\).*224"),
        (TransformersModel(config="vitt"), r"no model type 'vitt'; nearest: 'vit"),
        (
            TransformersModel(config="vit", arguments={"hiden_size": 8}),
            r"no field 'hiden_size'; nearest: 'hidden_size'",
        ),
        (TransformersModel(config="bert"), r"cannot be built with arguments.*Unrecognized configuration class"),
        (TransformersModel(name="."), r"holds no transformers model: expected config.json"),
        (
            BuiltinModel(name="mlp", arguments={"hidden": [4]}, preprocess=Preprocess(mean=(0, 0), std=(1, 1))),
            r"2 values",
        ),
        (BuiltinModel(name="mlp", arguments={"hidden": [4]}, state="w.safetensors"), r"there is no file w.safetensors"),
        (BuiltinModel(name="mlp", arguments={"hidden": [4]}, state="w.pth"), r"pickled checkpoint.*convert_state"),
    ],
    ids=str,
)
def test_what_cannot_be_built_is_explained(spec, message, own_code):
    with pytest.raises(InputError, match=message):
        build_model(spec, classes=4, inputs=GREY)


def test_images_for_a_network_that_wants_images():
    with pytest.raises(InputError, match=r"takes images .* the data give shape \(2, 5\)"):
        build_model(BuiltinModel(name="cnn", arguments={"widths": [4]}), classes=4, inputs=torch.rand(2, 5))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"source": "understudy", "name": "mlp", "arguments": {"hiden": [4]}},
            "no argument 'hiden'; nearest: 'hidden'",
        ),
        ({"source": "understudy", "name": "mlp", "arguments": {"hidden": [0]}}, "argument 'hidden.0' of mlp"),
        ({"source": "understudy", "name": "cnn"}, "cnn needs the argument 'widths'"),
        ({"source": "torchvision", "name": "resnet18", "wieghts": "DEFAULT"}, "wieghts"),
        ({"source": "torchvision", "name": "resnet18", "weights": "DEFAULT", "state": "x.safetensors"}, "two answers"),
        ({"source": "transformers"}, "exactly one of name"),
        ({"source": "python", "target": "no_colon"}, "target"),
        ({"source": "torchhub", "name": "x"}, "torchhub"),
    ],
)
def test_a_wrong_entry_is_refused_before_anything_is_imported(entry, message):
    with pytest.raises(ValidationError, match=message):
        RECIPE.validate_python(entry)


def test_checking_imports_no_code_of_the_user(own_code):
    check_model(PythonModel(target="own_broken:make"))
    assert "own_broken" not in sys.modules
    with pytest.raises(InputError, match="no classifier"):
        check_model(TorchvisionModel(name="resnet17"))


def test_descriptions():
    assert describe(BuiltinModel(name="mlp", arguments={"hidden": [800, 800]})) == "mlp 800-800"
    assert describe(TorchvisionModel(name="resnet18")) == "torchvision resnet18"
    assert describe(PythonModel(target="a:b"), nn.Linear(1, 1)) == "python a:b (Linear)"


UNREACHABLE = {
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "HF_ENDPOINT": "http://127.0.0.1:9",
}


@pytest.mark.e2e
def test_a_hub_out_of_reach_is_said_quickly_with_a_way_on(tmp_path):
    code = """
import time, timm, torch, torchvision, transformers
from understudy.errors import InputError
from understudy.sources import TimmModel, TorchvisionModel, TransformersModel, build_model
begin = time.perf_counter()
for spec in (
    TorchvisionModel(name="resnet18", weights="DEFAULT"),
    TimmModel(name="resnet10t", pretrained=True),
    TransformersModel(name="google/vit-base-patch16-224"),
):
    try:
        build_model(spec, classes=4, inputs=torch.rand(2, 3, 32, 32))
    except InputError as error:
        print(error)
print("SECONDS", time.perf_counter() - begin)
"""
    environment = os.environ | UNREACHABLE | {"HF_HOME": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    text, _, seconds = done.stdout.rpartition("SECONDS")
    assert "is out of reach. Put the file there" in text
    assert "http://127.0.0.1:9 is out of reach. Set pretrained: false" in text
    assert "http://127.0.0.1:9 is out of reach. Give a folder" in text
    assert float(seconds) < 20.0  # the libraries alone would try again for more than a minute


def test_reachability_is_asked_with_a_limit(monkeypatch):
    begin = time.perf_counter()
    assert not reachable("http://127.0.0.1:9", seconds=1.0)
    assert time.perf_counter() - begin < 5.0
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with cache_when_unreachable() as silent:
        assert silent == "http://127.0.0.1:9"
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.e2e
def test_a_missing_library_names_the_extra(tmp_path):
    code = """
import sys
sys.modules["timm"] = None  # what an absent package looks like to import
import torch
from understudy.sources import TimmModel, build_model
build_model(TimmModel(name="resnet10t"), classes=2, inputs=torch.rand(2, 3, 32, 32))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'understudy[vision]'" in done.stderr
