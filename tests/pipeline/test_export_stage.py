"""The export stage leaves proved files and says what it left."""

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from understudy.cli.main import main
from understudy.pipeline.stages import AnyStage, Export
from understudy.runtimes import open_model

RECIPE = """
version: 1
name: exported
task: {{kind: image_classification}}
data: {{source: sklearn/digits}}
stages:
  - kind: train
    name: student
    model: {{source: understudy, name: mlp, arguments: {{hidden: [16]}}}}
    training: {{epochs: 1, optimizer: {{kind: adamw, lr: 0.01}}}}
  - kind: export
    name: files
    models: [student]
    formats: [{formats}]
    licence: MIT
"""


def test_a_recipes_entry_is_the_stage() -> None:
    entry = {"kind": "export", "name": "files", "models": ["a", "b@2"], "formats": ["onnx", "executorch"]}
    stage = TypeAdapter(AnyStage).validate_python(entry)
    assert stage == Export(name="files", models=("a", "b@2"), formats=("onnx", "executorch"))
    assert (stage.needs, stage.reads, stage.split) == (("a", "b"), ("a", "b@2"), "test")


@pytest.mark.parametrize(
    "wrong",
    [{"formats": ["onx"]}, {"models": []}, {"formats": ["onnx", "onnx"]}, {"models": ["a", "a"]}, {"split": "train"}],
)
def test_bad_entries_are_refused(wrong) -> None:
    with pytest.raises(ValidationError):
        Export.model_validate({"name": "files", "models": ["a"], **wrong})


def run(tmp_path: Path, formats: str) -> tuple[int, Path]:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(formats=formats))
    code = main(["run", str(recipe), "--out", str(tmp_path / "run")])
    return code, tmp_path / "run" / "stages" / "files" / "seed-0"


@pytest.mark.e2e
def test_a_run_leaves_files_with_their_proofs(tmp_path, capfd) -> None:
    code, place = run(tmp_path, "tensorrt, torch_export")
    assert code == 0
    record = json.loads((place / "export.json").read_text())
    assert [file["path"] for file in record["files"]] == ["student.tensorrt.onnx", "student.pt2"]
    for file in record["files"]:
        assert file["model"] == "student"
        assert file["bytes"] == (place / file["path"]).stat().st_size
        assert file["proof"]["proved"]
        assert file["proof"]["data"] == "the test split"
        assert file["proof"] == json.loads((place / f"{file['path']}.proof.json").read_text())
        card = open_model(place / file["path"]).card
        assert card is not None
        assert (card.licence, len(card.recipe)) == ("MIT", 64)
        saved = json.loads((tmp_path / "run/stages/student/seed-0/model.json").read_text())
        assert card.weights == saved["sha256"]
    told = capfd.readouterr().err
    assert "student.tensorrt.onnx: " in told
    assert f"trtexec --onnx={place / 'student.tensorrt.onnx'} " in told


@pytest.mark.e2e
def test_what_can_be_written_is_there_when_something_cannot(tmp_path, capfd, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "executorch", None)
    code, place = run(tmp_path, "executorch, torch_export")
    assert code == 1
    told = capfd.readouterr().err
    assert "1 of 2 files could not be exported" in told
    assert "student as executorch: writing an ExecuTorch file needs executorch" in told
    assert (place / "student.pt2").is_file()
    assert json.loads((place / "export.json").read_text())["failed"][0]["format"] == "executorch"
