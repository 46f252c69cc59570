"""What a deploy stage takes from the stages before it, and how a recipe names them."""

import json

import pytest
import torch

from understudy.errors import InputError
from understudy.pipeline.directory import RunDirectory
from understudy.pipeline.exported import exported_candidates, exported_files
from understudy.pipeline.stages import Deploy
from understudy.recipe import RecipeError, parse_recipe
from understudy.sources import BuiltinModel, build_model, save_artifact

RECIPE = """\
version: 1
name: small
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: cnn
    model: {source: understudy, name: mlp, arguments: {hidden: [32]}}
    training: {epochs: 1, optimizer: {kind: sgd, lr: 0.1}}
  - {kind: export, name: files, models: [cnn]}
"""
SPEC = BuiltinModel(name="mlp", arguments={"hidden": [4]})


def model_stage(run, name, seed=0, **record):
    inputs = torch.rand(2, 6)
    directory = run.stage(name, seed)
    save_artifact(
        directory.path,
        build_model(SPEC, classes=("a", "b"), inputs=inputs),
        spec=SPEC,
        classes=("a", "b"),
        inputs=inputs,
    )
    directory.write_record({"schema": 1, "kind": "train", "name": name, "seed": seed, **record})


def export_stage(run, name, files, seed=0):
    """Files given as paths, each with its model and its format."""
    directory = run.stage(name, seed)
    directory.path.mkdir(parents=True)
    files = [{"path": path, "model": model, "format": kind} for path, (model, kind) in files.items()]
    for file in files:
        (directory.path / file["path"]).touch()
    (directory.path / "export.json").write_text(json.dumps({"schema": 1, "files": files}))
    return directory


@pytest.fixture
def run(tmp_path):
    """A teacher with a seed of its own, a student, what was pruned from it, and the same without files in between."""
    run = RunDirectory(tmp_path / "run")
    model_stage(run, "teacher", seed=7)
    model_stage(run, "student", teacher=["teacher"])
    model_stage(run, "pruned", start="student")
    model_stage(run, "int8", start="pruned")
    return run


def test_files_know_what_they_were_made_from(run):
    files = {"student.onnx": ("student", "onnx"), "student.xml": ("student", "openvino"), "int8.onnx": ("int8", "onnx")}
    directory = export_stage(run, "files", files)
    (directory.path / "student.onnx.proof.json").write_text('{"proved": true}')
    found = {each.name: each for each in exported_candidates([directory], reference="teacher", seed=0)}
    assert list(found) == ["teacher", "student", "int8", "student.onnx", "student.xml", "int8.onnx"]
    assert {name: each.before for name, each in found.items()} == {
        "teacher": None,
        "student": "teacher",
        "int8": "student",
        "student.onnx": None,
        "student.xml": None,
        "int8.onnx": "student.onnx",
    }
    assert {name: each.proved for name, each in found.items()} == {
        "teacher": None,
        "student": None,
        "int8": None,
        "student.onnx": True,
        "student.xml": False,
        "int8.onnx": False,
    }
    assert found["teacher"].path == run.stage("teacher", 7).path / "model.json"
    assert found["int8.onnx"].path == directory.path / "int8.onnx"
    assert [name for name, each in found.items() if each.compiled and each.path.suffix == ".json"] == ["teacher"]
    assert {each.macs for each in found.values()} == {6 * 4 + 4 * 2}


def test_a_dynamic_file_is_smaller_than_the_float_file_of_its_model_where_there_is_one(run):
    files = {
        "student.onnx": ("student", "onnx"),
        "student.dynamic.onnx": ("student", "onnx_dynamic"),
        "pruned.dynamic.onnx": ("pruned", "onnx_dynamic"),
    }
    directory = export_stage(run, "files", files)
    found = {each.name: each.before for each in exported_candidates([directory], reference="student", seed=0)}
    assert found["student.dynamic.onnx"] == "student.onnx"
    assert found["pruned.dynamic.onnx"] == "student.dynamic.onnx"


def test_files_of_one_name_are_told_apart(run):
    first = export_stage(run, "a", {"model.onnx": ("student", "onnx")})
    second = export_stage(run, "b", {"model.onnx": ("pruned", "onnx")})
    names = [each.name for each in exported_candidates([first, second], reference="student", seed=0)]
    assert names == ["student", "pruned", "a/model.onnx", "b/model.onnx"]


def test_a_stage_that_is_no_export_is_refused(run):
    with pytest.raises(InputError, match="stage 'student' has left no exported files; expected one of the kind"):
        exported_files(run.stage("student", 0))


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("files: [file], reference: cnn", "there is no stage 'file'; nearest: 'files'"),
        ("files: [files], reference: cn", "there is no stage 'cn'; nearest: 'cnn'"),
        ("files: [cnn], reference: cnn", r"stage 'cnn' \(train\) exports no files; name one of the kind `export`"),
        ("files: [], reference: cnn", "at least 1 item"),
        ("files: [files], reference: cnn, max_drop: -1", "greater than or equal to 0"),
        ("files: [files], reference: cnn, by: size", "'latency', 'throughput' or 'bytes'"),
        ("files: [files], reference: cnn, target: latency<2", "the unit ''; latency has"),
        ("files: [files], reference: cnn, batch_sizes: [0]", "greater than or equal to 1"),
    ],
)
def test_mistakes_in_a_recipe_are_found_where_they_stand(stage, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe(f"{RECIPE}  - {{kind: deploy, name: deploy, {stage}}}\n")


def test_a_recipes_stage_is_the_python_object():
    text = f"{RECIPE}  - {{kind: deploy, name: best, files: [files], reference: cnn, max_drop: 0.5, threads: [1]}}\n"
    assert parse_recipe(text).stages[-1] == Deploy(
        name="best", files=("files",), reference="cnn", max_drop=0.5, threads=(1,)
    )
