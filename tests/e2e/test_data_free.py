"""Learning without data: killed and taken up again, in two processes, and as a whole run of a recipe."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

pytestmark = pytest.mark.e2e

PROGRAM = str(Path(__file__).with_name("generated_program.py"))
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "1"}
RECIPE = """
version: 1
name: without-data
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: teacher
    model: {source: understudy, name: cnn, arguments: {widths: [8, 16]}}
    training: {epochs: 6, batch_size: 64, optimizer: {kind: adamw, lr: 5e-3}}
  - kind: data_free
    name: student
    teacher: teacher
    model: {source: understudy, name: cnn, arguments: {widths: [8, 16]}}
    generator: {widths: [16, 8], epoch: 30}
    training: {steps: 60, batch_size: 32, optimizer: {kind: adamw, lr: 1e-2}, select: last}
  - {kind: evaluate, name: comparison, models: [teacher, student], memory: false, latency: false}
"""


def started(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=ENVIRONMENT)


def understudy(*arguments: str) -> subprocess.CompletedProcess[str]:
    return started(sys.executable, "-m", "understudy", *arguments)


def result(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_killed_at_a_random_step_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    step = random.Random().randint(5, 29)
    killed = started(sys.executable, PROGRAM, str(tmp_path / "killed"), "--kill-at", str(step))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    again = result(started(sys.executable, PROGRAM, str(tmp_path / "killed")))
    whole = result(started(sys.executable, PROGRAM, str(tmp_path / "whole")))
    assert whole["resumed_from"] is None
    assert again["resumed_from"] == (step - 1) // 4 * 4  # killed before a checkpoint of that very step
    assert again["weights"] == whole["weights"], f"killed at step {step}"


def test_two_processes_learn_the_same_as_one(tmp_path: Path) -> None:
    one = result(started(sys.executable, PROGRAM, str(tmp_path / "one"), "--plain"))
    two = result(started(*TORCHRUN, PROGRAM, str(tmp_path / "two"), "--plain"))
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-3)
    for name, weights in one["weights"].items():
        assert two["weights"][name] == pytest.approx(weights, rel=1e-2, abs=3e-3), name


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "without-data.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def finished(recipe: Path) -> Path:
    out = recipe.parent / "out"
    done = understudy("run", str(recipe), "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out


def test_a_run_leaves_student_control_pictures_and_a_report(finished: Path) -> None:
    stage = finished / "stages/student/seed-0"
    record = json.loads((stage / "stage.json").read_text())
    assert record["models"] == {"student": ".", "control": "control"}
    assert record["teacher"] == ["teacher"]
    assert record["data"] == "no training images and no labels; 1,920 generated images"
    assert record["training"]["steps"] == record["control"]["steps"] == 60
    assert record["training"]["labelled"] == 0
    assert record["training"]["selected"] == "last"
    student, control = (load_file(place / "model.safetensors") for place in (stage, stage / "control"))
    assert not all(student[name].equal(control[name]) for name in student)
    pictures = [np.asarray(Image.open(place / "generated.png")) for place in (stage, stage / "control")]
    assert pictures[0].shape == (10 * 34, 10 * 34)
    assert not np.array_equal(*pictures)
    assert not (stage / "checkpoints").exists()


def test_the_report_says_what_the_gain_is_the_worth_of(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    assert {row["role"] for row in report["rows"]} == {"teacher", "student", "control"}
    assert report["gain"]["of"] == "the training of the generator"
    assert "with the training of the generator" in report["headline"]
    text, page = (finished / "report.md").read_text(), (finished / "report.html").read_text()
    assert "What the training of the generator was worth" in text
    assert "no training images and no labels" in text
    folder = "stages/student/seed-0"
    assert [each["image"] for each in report["pictures"]] == [
        f"{folder}/generated.png",
        f"{folder}/control/generated.png",
    ]
    assert page.count('<img src="data:image/png;base64,') >= 2
    assert 'alt="student: generated images"' in page
    for told in ("Worth of the training of the generator", "trained without the training of the generator"):
        assert told in page
    assert {(curve["role"], curve["control"]) for curve in report["curves"] if curve["stage"] == "student"} == {
        ("student", False),
        ("control", True),
    }


def test_the_same_run_again_trains_nothing(recipe: Path, finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.glob("stages/**/*") if path.is_file()}
    assert understudy("run", str(recipe), "--out", str(finished)).returncode == 0
    assert before == {path: path.stat().st_mtime_ns for path in finished.glob("stages/**/*") if path.is_file()}


def test_a_deep_check_finds_nothing_wrong(recipe: Path) -> None:
    done = understudy("check", str(recipe), "--deep", "--json")
    assert done.returncode == 0, done.stderr
    findings = json.loads(done.stdout)["findings"]
    assert [finding["check"] for finding in findings] == ["teacher_quality"]
    assert "'teacher' comes before" in findings[0]["seen"]


def test_a_teacher_at_chance_stops_the_run_before_anything_is_generated(recipe: Path, tmp_path: Path) -> None:
    hopeless = ["--set", "stages.teacher.training.optimizer.lr=0", "--set", "stages.teacher.training.epochs=1"]
    done = understudy("run", str(recipe), "--out", str(tmp_path / "out"), *hopeless)
    assert done.returncode == 2
    assert "teacher_quality" in done.stderr
    assert "the teacher guesses" in done.stderr
    assert not list((tmp_path / "out").glob("stages/student/**/*.safetensors"))


def test_data_that_are_no_images_are_refused_before_anything_is_trained(recipe: Path, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).random((60, 12), dtype=np.float32)
    np.savez(tmp_path / "rows.npz", train_inputs=rows, train_labels=np.arange(60) % 3)
    text = recipe.read_text().replace("image_classification", "classification")
    text = text.replace("sklearn/digits", str(tmp_path / "rows.npz"))
    text = text.replace("name: cnn, arguments: {widths: [8, 16]}", "name: mlp, arguments: {hidden: [8]}")
    (tmp_path / "rows.yaml").write_text(text)
    done = understudy("run", str(tmp_path / "rows.yaml"), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "a generator makes images" in done.stderr
    assert "shape (N, 12)" in done.stderr
    assert "stages.1.kind" in done.stderr or "rows.yaml:11" in done.stderr
    assert not (tmp_path / "out" / "stages").exists()
