"""``understudy transferability --layers`` in a real process: which layers of a network transfer to other data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from understudy.sources import BuiltinModel, build_model, save_artifact

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def understudy(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "understudy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False)


def files(run: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in run.glob("stages/**/*") if path.is_file()}


@pytest.mark.e2e
def test_it_prints_one_table_and_a_repetition_trains_nothing(tmp_path: Path) -> None:
    spec, inputs = BuiltinModel(name="mlp", arguments={"hidden": [32, 16]}), torch.rand(2, 1, 8, 8)
    network = build_model(spec, classes=3, inputs=inputs)
    source = save_artifact(tmp_path / "source", network, spec=spec, classes=("a", "b", "c"), inputs=inputs)
    out = tmp_path / "layers"
    command = ["transferability", str(source), "--layers", "--data", "sklearn/digits", "--out", str(out)]
    command += ["--epochs", "1", "--labels", "60", "--seeds", "2"]
    done = understudy(*command)
    assert done.returncode == 0, done.stderr
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if "│" in line]
    assert [line[:2] for line in lines] == [["0", "–"], ["1", "hidden1"], ["2", "hidden2"]]
    assert all("±" in cell for line in lines for cell in line[2:])
    assert f"Report: {out / 'report.html'}" in done.stdout
    report = json.loads((out / "report.json").read_text())
    (found,) = report["layers"]
    assert found["units"] == ["hidden1", "hidden2"]
    assert found["scratch"]["seeds"] == [0, 1]
    assert [(each["units"], each["frozen"]["n"], each["tuned"]["n"]) for each in found["points"]] == [
        (1, 2, 2),
        (2, 2, 2),
    ]
    assert report["runs"][0]["status"] == "done"
    assert report["notes"] == []
    before = files(out)
    again = understudy(*command, "--json")
    assert again.returncode == 0, again.stderr
    assert files(out) == before
    assert again.stderr.count("skipped") == 2 * 6
    told = json.loads(again.stdout)
    assert {key: told[key] for key in found} == found
    assert told["model"] == str(source)
