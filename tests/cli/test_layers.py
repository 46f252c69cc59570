"""``understudy layers``, and the ways to name a model."""

import json

import pytest
import torch

from understudy.cli.main import main
from understudy.cli.model_names import model_fields, parsed_size
from understudy.errors import InputError
from understudy.sources.artifact import save_artifact
from understudy.sources.model_specs import BuiltinModel
from understudy.sources.models import build_model


def listed(capsys, *arguments: str):
    assert main(["layers", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_network_of_our_own(capsys):
    found = listed(capsys, "understudy:mlp:6-5", "--size", "1,8,8", "--classes", "3")
    assert found["schema"] == 1
    assert found["model"] == "understudy:mlp:6-5"
    assert found["parameters"] == 64 * 6 + 6 + 6 * 5 + 5 + 5 * 3 + 3
    assert {"path": "hidden2", "type": "Linear", "output_shape": [2, 5], "parameters": 35} in found["layers"]


def test_people_get_a_table_and_may_cut_it_in_depth(capsys):
    assert main(["layers", "understudy:cnn:4-8", "--size", "3,16,16", "--depth", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "type", "output", "parameters"]
    assert lines[1].split() == ["block1", "Sequential", "2×4×8×8", "116"]
    assert not any("block1.conv" in line for line in lines)


def test_pairs_of_two_networks_with_what_joins_them(capsys):
    networks = ("--pair", "understudy:cnn:8-16", "understudy:cnn:4-8", "--size", "3,16,16")
    found = listed(capsys, *networks)
    assert (found["student"], found["teacher"]) == ("understudy:cnn:4-8", "understudy:cnn:8-16")
    assert found["pairs"][-3:] == [
        {
            "role": "stage",
            "student_layer": "block2",
            "student_shape": [2, 8, 8, 8],
            "teacher_layer": "block2",
            "teacher_shape": [2, 16, 8, 8],
            "adapter": "1×1 convolution 8 → 16",
        },
        {
            "role": "penultimate",
            "student_layer": "flatten",
            "student_shape": [2, 8],
            "teacher_layer": "flatten",
            "teacher_shape": [2, 16],
            "adapter": "linear 8 → 16",
        },
        {
            "role": "classifier",
            "student_layer": "head",
            "student_shape": [2, 10],
            "teacher_layer": "head",
            "teacher_shape": [2, 10],
            "adapter": "nothing: its weight is read",
        },
    ]
    assert main(["layers", *networks]) == 0
    *_, last, classifier = capsys.readouterr().out.splitlines()
    assert classifier.split()[:3] == ["classifier", "head", "2×10"]
    assert last.split() == ["penultimate", "flatten", "2×8", "flatten", "2×16", "linear", "8", "→", "16"]


def test_a_pair_that_only_vectors_can_join_is_said_to_be_one(capsys):
    found = listed(capsys, "--pair", "understudy:cnn:8", "understudy:mlp:9", "--size", "1,8,8")
    assert found["pairs"][0]["adapter"] == "nothing: only a method that reads both as vectors takes them"
    assert found["pairs"][1]["adapter"] == "linear 9 → 8"


def test_networks_for_different_inputs_are_no_pair(tmp_path, capsys):
    spec = BuiltinModel(name="cnn", arguments={"widths": [4]})
    inputs = torch.zeros(2, 1, 8, 8)
    model = build_model(spec, classes=2, inputs=inputs)
    save_artifact(tmp_path / "saved", model, spec=spec, classes=("a", "b"), inputs=inputs)
    assert main(["layers", "--pair", "understudy:cnn:8", str(tmp_path / "saved")]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "(N, 1, 8, 8)" in told
    assert "(N, 3, 224, 224)" in told
    assert "--size" in told
    assert main(["layers", "--pair", "understudy:cnn:8", str(tmp_path / "saved"), "--size", "1,8,8"]) == 0


def test_a_saved_model_knows_its_own_shape(tmp_path, capsys):
    spec = BuiltinModel(name="mlp", arguments={"hidden": [4]})
    inputs = torch.zeros(2, 1, 3, 3)
    model = build_model(spec, classes=2, inputs=inputs)
    save_artifact(tmp_path / "saved", model, spec=spec, classes=("a", "b"), inputs=inputs)
    found = listed(capsys, str(tmp_path / "saved"))
    assert found["parameters"] == 9 * 4 + 4 + 4 * 2 + 2


def test_a_stage_of_a_recipe_is_built_for_its_data(tmp_path, capsys):
    (tmp_path / "r.yaml").write_text(
        "version: 1\nname: r\ntask: image_classification\ndata: {source: sklearn/digits}\nstages:\n"
        "  - {kind: train, name: teacher, model: {source: understudy, name: mlp, arguments: {hidden: [7]}},\n"
        "     training: {epochs: 1, optimizer: {lr: 0.1}}}\n"
    )
    found = listed(capsys, f"{tmp_path / 'r.yaml'}#teacher")
    assert found["parameters"] == 64 * 7 + 7 + 7 * 10 + 10
    assert main(["layers", f"{tmp_path / 'r.yaml'}#techer"]) == 2
    assert "nearest: 'teacher'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("torchvision:resnet18", {"source": "torchvision", "name": "resnet18"}),
        ("timm:vit_tiny_patch16_224", {"source": "timm", "name": "vit_tiny_patch16_224"}),
        ("python:my.models:net", {"source": "python", "target": "my.models:net"}),
        ("understudy:cnn:8-16", {"source": "understudy", "name": "cnn", "arguments": {"widths": [8, 16]}}),
        ("artifact:runs/x", {"source": "artifact", "path": "runs/x"}),
    ],
)
def test_a_name_is_what_a_recipe_would_say(name, fields):
    assert model_fields(name) == fields


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet18", "torchvision:resnet18, timm:resnet18"),
        ("torchvison:resnet18", "nearest: 'torchvision'"),
        ("runs/none", "there is no such directory"),
        ("torchvision:", "a name after the colon"),
        ("understudy:mpl:3", "nearest: 'mlp'"),
        ("understudy:mlp", "such as understudy:mlp:64-128"),
        ("understudy:mlp:a-b", "such as understudy:mlp:64-128"),
    ],
)
def test_a_name_that_is_none_says_what_it_may_have_meant(name, words):
    with pytest.raises(InputError, match=words):
        model_fields(name)


def test_sizes():
    assert parsed_size("3,32,32") == parsed_size("3x32x32") == (3, 32, 32)
    assert parsed_size("64") == (64,)
    for wrong in ("3,,2", "a", "3,0,2"):
        with pytest.raises(InputError, match="--size"):
            parsed_size(wrong)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["torchvision:resnet81"], "nearest: 'resnet18'"),
        (["nowhere#student"], "neither a recipe nor the directory of a run"),
        (["python:no_such_module:net"], "no_such_module"),
    ],
)
def test_bad_models_end_with_2(arguments, words, capsys):
    assert main(["layers", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_units_are_shown_from_the_inputs_to_the_head(capsys) -> None:
    arguments = ["layers", "understudy:resnet:8-16", "--size", "3,16,16", "--units"]
    assert main([*arguments, "--json"]) == 0
    units = json.loads(capsys.readouterr().out)["units"]
    assert [unit["name"] for unit in units] == [
        "stem.0.conv",
        "stage1.block1",
        "stage1.block2",
        "stage2.block1",
        "stage2.block2",
        "head",
    ]
    assert units[0]["parameters"] == ["stem.0.conv.weight", "stem.0.norm.weight", "stem.0.norm.bias"]
    assert main(arguments) == 0
    assert "begins with" in capsys.readouterr().out
