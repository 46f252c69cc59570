"""A class that the transfer set does not have: learnt through the teacher, brought back by its bias."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

RECIPE = """
version: 1
name: no-threes
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: teacher
    model: {source: understudy, name: mlp, arguments: {hidden: [128], dropout: 0.3}}
    training: {epochs: 20, batch_size: 64, optimizer: {kind: adam, lr: 3e-3}, select: last}
  - kind: distill
    name: student
    teacher: teacher
    model: {source: understudy, name: mlp, arguments: {hidden: [64]}}
    subset: {exclude_classes: ["3"]}
    objective: [{kind: soft_targets, temperature: 2.0}]
    training: {epochs: 40, batch_size: 64, optimizer: {kind: adam, lr: 3e-3}, select: last}
    control: false
  - kind: fit_bias
    name: shifted
    student: student
    teacher: teacher
    classes: ["3"]
  - kind: evaluate
    name: comparison
    models: [teacher, student, shifted]
    latency: false
    memory: false
"""


def test_the_shift_brings_the_unseen_class_back(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    done = subprocess.run(
        [sys.executable, "-m", "understudy", "run", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    stages = tmp_path / "run/stages"
    found = json.loads((stages / "comparison/seed-0/evaluation.json").read_text())
    threes = {name: rows[3][3] / sum(rows[3]) for name, rows in found["confusion"].items()}
    accuracy = {row["name"]: row["metrics"]["accuracy"] for row in found["rows"]}
    record = json.loads((stages / "shifted/seed-0/stage.json").read_text())
    assert record["bias_shift"].keys() == {"3"}
    assert record["bias_shift"]["3"] > 0.0
    assert record["data"].endswith("no label")
    assert 0.5 < threes["student"] < threes["shifted"]  # most of an unseen class comes through the teacher
    assert accuracy["shifted"] > accuracy["student"]
    assert {row["name"]: row["role"] for row in found["rows"]}["shifted"] == "student"
    subset = json.loads((stages / "student/seed-0/stage.json").read_text())["data"]
    assert "without class '3'" in subset
