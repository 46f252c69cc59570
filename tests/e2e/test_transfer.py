"""A transfer as real processes run it: two of them train what one does, from a source of another run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.e2e

SOURCE = """
version: 1
name: source
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: teacher
    model: {source: understudy, name: mlp, arguments: {hidden: [64, 32]}}
    training: {epochs: 3, batch_size: 64, optimizer: {kind: adam, lr: 3e-3}, execution: plain}
"""
TRANSFER = """
version: 1
name: transfer
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: transfer
    name: tuned
    model: {source: artifact, path: PATH}
    head: new
    subset: {labels: 60}
    tuning: {freeze: 1, decay: 0.5, l2_sp: 0.01, gradual: 0.4}
    objective: [{kind: cross_entropy}, {kind: hint, student_layer: hidden2, teacher_layer: hidden2}]
    training: {steps: 20, batch_size: 32, optimizer: {kind: adam, lr: 3e-3}, execution: plain, select: last}
"""
ALONE = [sys.executable, "-m"]
TOGETHER = [*ALONE, "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]


def understudy(launcher: list[str], recipe: Path, out: Path) -> None:
    done = subprocess.run(
        [*launcher, "understudy", "run", str(recipe), "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr


def test_two_processes_transfer_as_one_does(tmp_path: Path) -> None:
    (tmp_path / "source.yaml").write_text(SOURCE)
    understudy(ALONE, tmp_path / "source.yaml", tmp_path / "source")
    teacher = tmp_path / "source/stages/teacher/seed-0"
    (tmp_path / "transfer.yaml").write_text(TRANSFER.replace("PATH", str(teacher)))
    for name, launcher in (("one", ALONE), ("two", TOGETHER)):
        understudy(launcher, tmp_path / "transfer.yaml", tmp_path / name)
    one, two = (tmp_path / name / "stages/tuned/seed-0" for name in ("one", "two"))
    source = load_file(teacher / "model.safetensors")
    for place in (".", "before", "control"):
        single, double = (load_file(out / place / "model.safetensors") for out in (one, two))
        for name, weights in single.items():
            torch.testing.assert_close(double[name], weights, rtol=0.0, atol=2e-3, msg=f"{place}: {name}")
    tuned = load_file(two / "model.safetensors")
    assert torch.equal(tuned["hidden1.weight"], source["hidden1.weight"])
    assert not torch.equal(tuned["hidden2.weight"], source["hidden2.weight"])
