"""``understudy compress`` from a trained model to the chosen file, in one command."""

import json
from pathlib import Path

import pytest

from understudy.cli.main import main
from understudy.measure.candidates import SIMULATED

CNN = "{source: understudy, name: cnn, arguments: {widths: [16, 32]}}"
RECIPE = f"""
version: 1
name: origin
task: image_classification
data: {{source: sklearn/digits}}
stages:
  - kind: train
    name: big
    model: {CNN}
    training: {{epochs: 8, batch_size: 64, optimizer: {{kind: adamw, lr: 5e-3}}}}
"""
NETWORK = """
from torch import nn

class Rows(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.rows = nn.LSTM(8, 96, batch_first=True)
        self.head = nn.Linear(96, classes)

    def forward(self, image):
        return self.head(self.rows(image.flatten(1, 2))[0][:, -1])
"""


@pytest.mark.e2e
def test_it_ends_with_a_file_within_the_target_or_says_what_is_nearest(tmp_path: Path, capsys) -> None:
    (tmp_path / "origin.yaml").write_text(RECIPE)
    assert main(["run", str(tmp_path / "origin.yaml"), "--out", str(tmp_path / "origin")]) == 0
    command = ["compress", f"{tmp_path / 'origin'}#big", "--data", "sklearn/digits", "--no-control", "--epochs", "3"]
    command += ["--shares", "0.5", "--out", str(tmp_path / "small"), "--max-drop", "30", "--seconds", "0.02"]
    capsys.readouterr()
    assert main([*command, "--target", "size<30kB"]) == 0
    said = capsys.readouterr()
    place = tmp_path / "small/stages/deployment/seed-0"
    found = json.loads((place / "deployment.json").read_text())
    chosen = next(
        row
        for row in found["rows"]
        if (row["name"], row["runtime"]) == (found["choice"]["name"], found["choice"]["runtime"])
    )
    assert found["choice"]["kept"]
    assert chosen["bytes"] < 30_000
    assert {row["precision"] for row in found["rows"] if row["name"] == "original-int8"} == {SIMULATED}
    assert (place / found["file"]).is_file()
    assert str(place / found["file"]) in said.err
    report = json.loads((tmp_path / "small/report.json").read_text())
    assert {row["name"] for row in report["rows"]} >= {"original", "pruned-50", "original-int8", "pruned-50-int8"}
    found["choice"]["met"] = False  # as where no file is small enough; nothing is measured a second time
    (place / "deployment.json").write_text(json.dumps(found))
    assert main([*command, "--target", "size<30kB"]) == 1
    assert "Nothing is thrown away" in capsys.readouterr().err


@pytest.mark.e2e
def test_a_recurrent_network_becomes_an_int8_file_too(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "rows_of_digits.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "origin.yaml").write_text(RECIPE.replace(CNN, '{source: python, target: "rows_of_digits:Rows"}'))
    assert main(["run", "origin.yaml", "--out", "origin"]) == 0
    command = ["compress", "origin#big", "--data", "sklearn/digits", "--out", "small", "--seconds", "0.02"]
    assert main([*command, "--max-drop", "2"]) == 0
    assert "the model has recurrent layers: it is not pruned" in capsys.readouterr().err
    found = json.loads((tmp_path / "small/stages/deployment/seed-0/deployment.json").read_text())
    rows = {(row["name"], row["runtime"]): row for row in found["rows"]}
    whole, small = (rows[name, "onnxruntime"] for name in ("original.onnx", "original.dynamic.onnx"))
    assert (whole["precision"], small["precision"]) == ("float32", "int8")
    assert small["bytes"] < 0.4 * whole["bytes"]
    assert small["proved"]
