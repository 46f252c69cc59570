"""`understudy export`."""

import json

import pytest
import torch

from understudy.cli.main import main
from understudy.runtimes import open_model
from understudy.sources.artifact import save_artifact
from understudy.sources.model_specs import BuiltinModel
from understudy.sources.models import build_model


@pytest.fixture
def saved(tmp_path):
    spec, inputs = BuiltinModel(name="mlp", arguments={"hidden": [8]}), torch.rand(2, 1, 8, 8)
    classes = [str(number) for number in range(10)]
    model = build_model(spec, classes=classes, inputs=inputs)
    return save_artifact(tmp_path / "saved", model, spec=spec, classes=classes, inputs=inputs)


def test_it_proves_the_file_on_data(saved, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    command = ["export", str(saved), "--format", "torch_export", "--data", "sklearn/digits", "--out", str(out)]
    assert main([*command, "--licence", "CC0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["path"] == str(out / "model.pt2")
    assert told["proof"]["proved"]
    assert told["proof"]["data"] == "the test split of sklearn/digits"
    assert told["proof"]["quality"]["samples"] == told["proof"]["samples"] == 359
    assert told["card"]["licence"] == "CC0"
    assert open_model(out / "model.pt2").card.classes == tuple(map(str, range(10)))


def test_without_data_it_says_so(saved, tmp_path, capsys) -> None:
    out = tmp_path / "named.pt2"
    assert main(["export", str(saved), "--format", "torch_export", "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "without --data it is proved on random inputs" in told.err
    assert "32 samples of random inputs" in told.out
    assert "in torch" in told.out
    assert out.is_file()


@pytest.mark.e2e
def test_a_file_for_tensorrt_comes_with_the_line_that_builds_its_engine(saved, tmp_path, capsys) -> None:
    assert main(["export", str(saved), "--format", "tensorrt", "--out", str(tmp_path)]) == 0
    path = tmp_path / "model.tensorrt.onnx"
    assert f"trtexec --onnx={path} --saveEngine={path.with_suffix('.plan')} --stronglyTyped" in capsys.readouterr().out
    assert main(["export", str(saved), "--format", "tensorrt", "--out", str(path), "--json"]) == 0
    assert "--maxShapes=input:64x1x8x8" in json.loads(capsys.readouterr().out)["trtexec"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "onx"], "there is no format 'onx'; nearest: 'onnx'"),
        (["--split", "train"], "--split 'train': expected 'test' or 'validation'"),
        (["--format", "onnx", "--out", "file.pte"], "ends in .pte, a file of the format 'onnx' ends in .onnx"),
    ],
)
def test_bad_options_are_explained(saved, capsys, arguments, words) -> None:
    assert main(["export", str(saved), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_other_data_than_the_models_are_refused(saved, tmp_path, capsys) -> None:
    command = ["export", str(saved), "--format", "torch_export", "--data", "sklearn/wine", "--out", str(tmp_path)]
    assert main(command) == 2
    assert capsys.readouterr().err
