"""Whole runs of a recipe, in real processes: the same command again, killed, in two processes, with bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

pytestmark = pytest.mark.e2e

RECIPE = """
version: 1
name: small
task: image_classification
seeds: [0, 1]
data: {source: sklearn/digits}
stages:
  - kind: train
    name: teacher
    seed: 7
    model: {source: understudy, name: mlp, arguments: {hidden: [64], dropout: 0.2}}
    views: {shift: 1}
    training: {epochs: 4, batch_size: 64, optimizer: {kind: adam, lr: 3e-3}, ema: 0.9, checkpoint_every: 5}
  - kind: distill
    name: student
    teacher: teacher
    model: {source: understudy, name: mlp, arguments: {hidden: [16], dropout: 0.1}}
    subset: {labels: 40}
    objective: [{kind: cross_entropy, weight: 0.1}, {kind: soft_targets, temperature: 4.0, weight: 0.9}]
    training: {epochs: 3, batch_size: 64, optimizer: {kind: adam, lr: 3e-3}, schedule: {kind: cosine}}
  - kind: evaluate
    name: comparison
    models: [teacher, student]
    memory: false
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
COMMAND = [sys.executable, "-m", "understudy"]


def understudy(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, **environment},
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def finished(recipe: Path) -> Path:
    out = recipe.parent / "finished"
    done = understudy("run", str(recipe), "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out


def weights(run: Path) -> dict[str, dict]:
    return {str(path.relative_to(run)): load_file(path) for path in sorted(run.glob("stages/**/model.safetensors"))}


def losses(run: Path) -> list[float]:
    lines = (run / "stages/teacher/seed-7/metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_a_run_leaves_what_the_contract_promises(finished: Path) -> None:
    assert sorted(weights(finished)) == [
        "stages/student/seed-0/control/model.safetensors",
        "stages/student/seed-0/model.safetensors",
        "stages/student/seed-1/control/model.safetensors",
        "stages/student/seed-1/model.safetensors",
        "stages/teacher/seed-7/model.safetensors",
    ]
    report = json.loads((finished / "report.json").read_text())
    assert {row["role"] for row in report["rows"]} == {"teacher", "student", "control"}
    assert report["gain"]["metric"] == "accuracy"
    assert len(report["gain"]["seeds"]) == 2
    record = json.loads((finished / "stages/student/seed-0/stage.json").read_text())
    assert record["data"].startswith("40 of ")
    assert record["training"]["steps"] == record["control"]["steps"]
    assert json.loads((finished / "environment.json").read_text())["packages"]["torch"]
    assert (finished / "report.html").stat().st_size > 10_000
    assert not list(finished.glob("stages/**/checkpoints"))


def test_the_same_command_again_trains_nothing(recipe: Path, finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.glob("stages/**/*") if path.is_file()}
    again = understudy("run", str(recipe), "--out", str(finished))
    assert again.returncode == 0, again.stderr
    assert before == {path: path.stat().st_mtime_ns for path in finished.glob("stages/**/*") if path.is_file()}
    assert "skipped" in again.stderr


def test_a_part_of_it_is_run_and_the_rest_another_time(recipe: Path, tmp_path: Path) -> None:
    part = understudy("run", str(recipe), "--out", str(tmp_path), "--only", "student", "--set", "seeds=[0]")
    assert part.returncode == 0, part.stderr
    assert sorted(path.name for path in (tmp_path / "stages").iterdir()) == ["student", "teacher"]
    assert "stage 'comparison' has not run yet" in part.stdout + part.stderr
    whole = understudy("run", str(recipe), "--out", str(tmp_path), "--set", "seeds=[0]")
    assert whole.returncode == 0, whole.stderr
    assert [line for line in whole.stderr.splitlines() if "skipped" in line] == [
        "teacher, seed 7: nothing has changed, skipped",
        "student, seed 0: nothing has changed, skipped",
    ]
    unknown = understudy("run", str(recipe), "--out", str(tmp_path), "--only", "studnet")
    assert unknown.returncode == 2
    assert "has no stage 'studnet'; nearest: 'student'; it has 'teacher', 'student', 'comparison'" in unknown.stderr


def test_only_what_depends_on_a_change_runs_again(recipe: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(finished), str(out)], check=True)
    changed = understudy("run", str(recipe), "--out", str(out), "--set", "stages.student.training.epochs=1")
    assert changed.returncode == 0, changed.stderr
    old, new = weights(finished), weights(out)
    teacher, student = "stages/teacher/seed-7/model.safetensors", "stages/student/seed-0/model.safetensors"
    assert all(old[teacher][name].equal(new[teacher][name]) for name in old[teacher])
    assert not all(old[student][name].equal(new[student][name]) for name in old[student])
    assert len(list((out / "replaced").iterdir())) == 4  # student and comparison, for two seeds: nothing is deleted


@pytest.mark.parametrize("moment", [0.35, 0.8])
def test_a_killed_run_goes_on_and_ends_with_the_same_bits(
    recipe: Path, finished: Path, tmp_path: Path, moment: float
) -> None:
    out = tmp_path / "killed"
    command = [*COMMAND, "run", str(recipe), "--out", str(out)]
    run = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wanted = out / "stages/teacher/seed-7"
    deadline = time.monotonic() + 120
    while not list(wanted.glob("checkpoints/*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(moment)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert not (out / "stages/comparison/seed-1/stage.json").exists()
    again = understudy("run", str(recipe), "--out", str(out))
    assert again.returncode == 0, again.stderr
    old, new = weights(finished), weights(out)
    assert old.keys() == new.keys()
    assert all(old[file][name].equal(new[file][name]) for file in old for name in old[file])


def test_two_processes_train_the_same_as_one(recipe: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "two"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29641"]
    # Dropout draws differ between processes; without it the two curves must be the same to rounding.
    plain = ["--set", "stages.teacher.model.arguments.dropout=0", "--set", "stages.student.model.arguments.dropout=0"]
    single = understudy("run", str(recipe), "--out", str(tmp_path / "one"), *plain)
    assert single.returncode == 0, single.stderr
    both = subprocess.run(
        [*torchrun, "-m", "understudy", "run", str(recipe), "--out", str(out), *plain],
        env={**ENVIRONMENT, "ACCELERATE_USE_CPU": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert both.returncode == 0, both.stderr
    assert losses(out) == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    assert weights(out).keys() == weights(finished).keys()
    assert both.stdout.count("Report:") == 1  # only one of them speaks


def test_a_second_process_is_told_who_holds_the_run(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "held"
    long = ["--set", "stages.teacher.training.epochs=5000"]
    first = subprocess.Popen(
        [*COMMAND, "run", str(recipe), "--out", str(out), *long],
        env=ENVIRONMENT,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not (out / ".lock.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        second = understudy("run", str(recipe), "--out", str(out), *long)
        assert second.returncode == 1
        assert f"in use by process {first.pid}" in second.stderr
        assert "Traceback" not in second.stderr
    finally:
        first.kill()
        first.wait()


def test_a_teacher_at_chance_stops_the_run_before_the_student_is_trained(recipe: Path, tmp_path: Path) -> None:
    hopeless = ["--set", "stages.teacher.training.optimizer.lr=0", "--set", "seeds=[0]"]
    done = understudy("run", str(recipe), "--out", str(tmp_path / "out"), *hopeless)
    assert done.returncode == 2
    assert "teacher_quality" in done.stderr
    assert not (tmp_path / "out/stages/student/seed-0/model.safetensors").exists()


def test_deep_check_names_what_is_not_known_yet(recipe: Path) -> None:
    done = understudy("check", str(recipe), "--deep", "--json")
    assert done.returncode == 0, done.stderr
    findings = json.loads(done.stdout)["findings"]
    assert [finding["check"] for finding in findings if finding["severity"] == "error"] == []
    assert any("not known yet" in finding["message"] for finding in findings)


def test_deep_check_builds_the_network_behind_fitted_biases(recipe: Path, tmp_path: Path) -> None:
    text = recipe.read_text().replace(
        "  - kind: distill",
        "  - {kind: fit_bias, name: fitted, student: teacher, teacher: teacher, classes: [3]}\n  - kind: distill",
    )
    path = tmp_path / "fitted.yaml"
    path.write_text(text.replace("    teacher: teacher\n", "    teacher: fitted\n"))
    done = understudy("check", str(path), "--deep", "--json")
    assert done.returncode == 0, done.stderr
    findings = json.loads(done.stdout)["findings"]
    assert any("stage 'fitted' comes before" in finding["seen"] for finding in findings)


def test_a_saved_teacher_is_loaded_and_used(recipe: Path, finished: Path, tmp_path: Path) -> None:
    text = recipe.read_text()
    start, end = text.index("  - kind: train"), text.index("  - kind: distill")
    teacher = finished / "stages/teacher/seed-7"
    load = f"  - {{kind: load, name: teacher, model: {{source: artifact, path: {teacher}}}}}\n"
    path = tmp_path / "loaded.yaml"
    path.write_text(text[:start] + load + text[end:])
    out = tmp_path / "out"
    done = understudy("run", str(path), "--out", str(out), "--set", "seeds=[0]")
    assert done.returncode == 0, done.stderr
    old, new = (load_file(run / "stages/student/seed-0/model.safetensors") for run in (finished, out))
    assert all(old[name].equal(new[name]) for name in old)
