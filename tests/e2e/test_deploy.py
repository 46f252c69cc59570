"""From a recipe to the file to deploy: exported, measured where it runs, chosen, copied and reported."""

import json

import pytest
import torch

from understudy.cli.main import main
from understudy.runtimes import open_model
from understudy.sources import load_artifact

pytestmark = pytest.mark.e2e

RECIPE = """\
version: 1
name: small
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: teacher
    model: {source: understudy, name: mlp, arguments: {hidden: [256, 256]}}
    training: &training {epochs: 4, batch_size: 64, optimizer: {kind: adam, lr: 3e-3}}
  - kind: distill
    name: student
    teacher: teacher
    model: {source: understudy, name: mlp, arguments: {hidden: [32]}}
    objective: [{kind: soft_targets, temperature: 4.0}]
    training: *training
    control: false
  - {kind: export, name: files, models: [teacher, student], formats: [onnx]}
  - kind: deploy
    name: best
    files: [files]
    reference: teacher
    max_drop: 90
    runtimes: [onnxruntime]
    by: bytes
    compiled: false
    threads: [1]
    batch_sizes: [1, 4]
    seconds: 0.05
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deploy")
    (folder / "recipe.yaml").write_text(RECIPE)
    assert main(["run", str(folder / "recipe.yaml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_the_smallest_file_that_is_as_good_is_chosen_and_answers_as_its_model(finished):
    place = finished / "stages" / "best" / "seed-0"
    found = json.loads((place / "deployment.json").read_text())
    rows = {(row["name"], row["runtime"]): row for row in found["rows"]}
    assert list(rows) == [
        ("teacher", "torch eager"),
        ("student", "torch eager"),
        ("teacher.onnx", "onnxruntime"),
        ("student.onnx", "onnxruntime"),
    ]
    assert rows["student.onnx", "onnxruntime"]["before"] == "teacher.onnx"
    assert rows["student.onnx", "onnxruntime"]["proved"] is True
    assert rows["student.onnx", "onnxruntime"]["precision"] == "float32"
    assert rows["student.onnx", "onnxruntime"]["macs"] == rows["student", "torch eager"]["macs"] == 64 * 32 + 32 * 10
    for name in ("teacher", "student"):
        own, deployed = rows[name, "torch eager"]["quality"], rows[f"{name}.onnx", "onnxruntime"]["quality"]
        assert deployed["test"]["errors"] == own["test"]["errors"]
    assert (found["choice"]["name"], found["choice"]["kept"]) == ("student.onnx", True)
    assert found["file"] == "chosen/student.onnx"
    assert sorted(path.name for path in (place / "chosen").iterdir())[-1] == "student.onnx.proof.json"
    samples = torch.rand(3, 1, 8, 8)
    student = load_artifact(finished / "stages" / "student" / "seed-0").module.eval()
    with torch.no_grad():
        torch.testing.assert_close(open_model(place / "chosen" / "student.onnx")(samples), student(samples))
    assert (place / rows["student.onnx", "onnxruntime"]["path"]).is_file()


def test_the_report_says_what_to_deploy(finished):
    text = (finished / "report.md").read_text()
    assert "## What to deploy" in text
    assert "**Deploy student.onnx in onnxruntime, " in text
    assert "It is in stages/best/seed-0/chosen/student.onnx." in text
    report = json.loads((finished / "report.json").read_text())
    assert report["runs"][0]["status"] == "done"
    assert [row["path"] for row in report["deployments"][0]["contenders"]][-1] == "stages/files/seed-0/student.onnx"


def test_the_same_command_measures_nothing_again(finished, capsys):
    before = (finished / "stages" / "best" / "seed-0" / "deployment.json").stat().st_mtime_ns
    assert main(["run", str(finished.parent / "recipe.yaml"), "--out", str(finished)]) == 0
    assert (finished / "stages" / "best" / "seed-0" / "deployment.json").stat().st_mtime_ns == before


def test_a_run_is_deployed_anew_by_the_verb(finished, capsys):
    arguments = ["deploy", str(finished), "--threads", "1", "--batch", "1", "--seconds", "0.01", "--no-compile"]
    arguments += ["--runtime", "onnxruntime", "--max-drop", "0", "--reference", "teacher", "--target", "size<1B"]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "no file is known to lose at most 0 points and keep to size<1B; the nearest is " in told
    assert (finished / "deployed" / "deployment.json").is_file()
    assert list((finished / "deployed" / "chosen").glob("*.onnx"))
