"""``understudy deploy``."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from understudy.cli.main import main
from understudy.foreign import quiet

QUICK = ["--seconds", "0.01", "--threads", "1", "--batch", "1", "--runtime", "onnxruntime", "--no-compile"]


class Shifted(nn.Module):
    """Counts the ink of each row; a part of the answers is wrong on purpose."""

    def __init__(self, noise: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(64, 10)
        self.noise = noise

    def forward(self, images):
        return self.layer(images.flatten(1)) * self.noise


def exported(path, noise):
    with quiet():
        torch.onnx.export(
            Shifted(noise).eval(),
            (torch.rand(2, 1, 8, 8),),
            path,
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            verbose=False,
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two files of one network; the second gives the opposite answers."""
    folder = tmp_path_factory.mktemp("deploy")
    exported(folder / "straight.onnx", 1.0)
    exported(folder / "opposite.onnx", -1.0)
    return folder


@pytest.mark.e2e
def test_the_best_file_is_copied_out_and_told(folder, tmp_path, capsys):
    files = [str(folder / "straight.onnx"), str(folder / "opposite.onnx")]
    arguments = ["deploy", *files, "--data", "sklearn/digits", "--out", str(tmp_path / "out"), *QUICK]
    assert main([*arguments, "--max-drop", "100", "--by", "bytes", "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert "timing batches of 1 with 1 thread" in captured.err
    assert [(row["name"], row["runtime"], row["failed"]) for row in found["rows"]] == [
        ("straight.onnx", "onnxruntime", None),
        ("opposite.onnx", "onnxruntime", None),
    ]
    assert found["rows"][1]["before"] == found["reference"] == "straight.onnx"
    assert found["rows"][0]["quality"]["test"]["samples"] == 359
    assert found["choice"]["kept"]
    record = json.loads((tmp_path / "out" / "deployment.json").read_text())
    for row, there in zip(found["rows"], record["rows"], strict=True):
        assert (tmp_path / "out" / there.pop("path")).resolve() == Path(row.pop("path")).resolve()
    assert record == found
    assert (tmp_path / "out" / found["file"]).read_bytes() == (folder / found["choice"]["name"]).read_bytes()


@pytest.mark.e2e
def test_a_reference_that_cannot_run_is_an_error_and_what_was_measured_stays(folder, tmp_path, capsys):
    (tmp_path / "torn.onnx").write_bytes((folder / "straight.onnx").read_bytes()[:200])
    files = [str(folder / "opposite.onnx"), str(tmp_path / "torn.onnx")]
    arguments = ["deploy", *files, "--data", "sklearn/digits", "--out", str(tmp_path / "out"), *QUICK]
    assert main([*arguments, "--reference", "torn.onnx"]) == 2
    assert "the reference 'torn.onnx' in onnxruntime was not measured: " in capsys.readouterr().err
    found = json.loads((tmp_path / "out" / "deployment.json").read_text())
    assert found["choice"] is None
    assert found["rows"][0]["timings"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.onnx"], "name some with --data"),
        (["a.onnx", "--data", "sklearn/digits"], "there is no file 'a.onnx'"),
        (["there.txt", "--data", "sklearn/digits"], "none of the files that a runtime executes"),
        (
            ["there.onnx", "--data", "sklearn/digits", "--by", "size"],
            "expected one of 'latency', 'throughput', 'bytes'",
        ),
        (["there.onnx", "--data", "sklearn/digits", "--reference", "me"], "expected a reference out of 'there.onnx'"),
        (["there.onnx", "--data", "sklearn/digits", "--out", "there.txt/out"], "does not take files"),
        (["run", "there.onnx"], "run is a run; expected one run alone"),
        (["run", "--data", "sklearn/digits"], "a run is measured on its own data"),
        (["run"], "recipe.json"),
    ],
)
def test_bad_input_ends_with_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name in ("there.onnx", "there.txt"):
        (tmp_path / name).touch()
    (tmp_path / "run" / "stages").mkdir(parents=True)
    assert main(["deploy", *arguments]) == 2
    assert message in capsys.readouterr().err
