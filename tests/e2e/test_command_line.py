"""Whole runs from the command line, in real processes."""

import json
import signal
import subprocess
import sys

import pytest

from understudy.cli.main import main

RECIPE = """\
version: 1
name: tiny
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: teacher
    model: {source: understudy, name: mlp, arguments: {hidden: [64]}}
    training: {epochs: 4, optimizer: {kind: adam, lr: 3e-3}}
  - kind: distill
    name: student
    teacher: teacher
    model: {source: understudy, name: mlp, arguments: {hidden: [8]}}
    objective: [{kind: soft_targets}]
    training: {epochs: 2, optimizer: {kind: adam, lr: 3e-3}}
  - {kind: evaluate, name: results, models: [teacher, student], memory: false}
"""

pytestmark = pytest.mark.e2e


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "understudy", *arguments]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def test_a_run_reports_on_stdout_and_can_be_looked_at_again(here, capsys):
    done = subprocess.run(command("run", "recipe.yaml", "--json"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {row["role"] for row in report["rows"]} == {"teacher", "student", "control"}
    assert "teacher" in done.stderr, "progress is on stderr"
    for name in ("report.html", "report.md", "report.json", "recipe.yaml", "recipe.json", "environment.json"):
        assert (here / "runs" / "tiny" / name).is_file()
    assert main(["report", "runs/tiny"]) == 0
    out = capsys.readouterr().out
    assert report["headline"].split(",")[0] in out
    assert "runs/tiny/report.html" in out
    assert main(["report", "runs/tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == report["rows"]
    assert main(["layers", "runs/tiny#student", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 64 * 8 + 8 + 8 * 10 + 10
    assert main(["report", "runs/tyni"]) == 2
    assert main(["layers", "runs/tiny#studnt"]) == 2
    assert "nearest: 'student'" in capsys.readouterr().err


def test_what_cannot_work_ends_with_2_before_anything_is_written(here):
    arguments = ["--set", "stages.student.objective=[{kind: hint, student_layer: hiden1, teacher_layer: head}]"]
    done = subprocess.run(command("run", "recipe.yaml", *arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "nearest: 'hidden1'" in done.stderr
    assert "--set stages.student.objective=" in done.stderr
    assert not (here / "runs").exists()


def test_ctrl_c_ends_with_130_and_says_that_the_run_can_go_on(here):
    arguments = ["--set", "stages.teacher.training.epochs=100000"]
    # A shell that puts the tests into the background makes them ignore Ctrl-C, and their children too.
    process = subprocess.Popen(
        command("run", "recipe.yaml", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if ": step " in line:  # in the midst of training, and not of an import
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "The same command goes on from the last checkpoint" in err
    assert "Traceback" not in err
    assert out == ""
