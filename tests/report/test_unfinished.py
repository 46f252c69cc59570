"""A run that is not whole still gives a report, which says what is missing."""

import json
import shutil

import pytest

from understudy.report import build_report, read_run, to_html, to_markdown, write_report

ALL = {"teacher": [0.97, 0.972], "student": [0.961, 0.958], "control": [0.949, 0.952]}


@pytest.fixture
def run(example, tmp_path):
    return example.plain_run(tmp_path / "run", ALL)


def _notes(run):
    report = build_report([read_run(run)])
    texts = " / ".join(note.text for note in report.notes)
    for text in (to_markdown(report), to_html(report)):
        assert text
    return report, texts


def test_whole_run_has_nothing_to_say(run):
    report, texts = _notes(run)
    assert report.runs[0].status == "done"
    assert "missing" not in texts


def test_failed_stage_with_its_reason(run, example):
    folder = run / "stages/student/seed-1"
    example.stage_file(folder, kind="distill", seed=1, status="failed", error="loss is nan at step 12")
    shutil.rmtree(run / "stages/evaluate/seed-1")
    report, texts = _notes(run)
    assert report.runs[0].status == "failed"
    assert "stage 'student' with seed 1 failed: loss is nan at step 12" in texts
    assert "stage 'evaluate' has not run for seed 1" in texts
    assert report.headline.startswith("this run failed: ")


def test_running_stage(run, example):
    example.stage_file(run / "stages/evaluate/seed-1", kind="evaluate", seed=1, status="running")
    report, texts = _notes(run)
    assert report.runs[0].status == "running"
    assert "still running, or was interrupted" in texts
    assert report.headline.startswith("not finished: ")


def test_stage_that_has_just_begun(run):
    (run / "stages/evaluate/seed-1/stage.json").unlink()
    report, texts = _notes(run)
    assert report.runs[0].status == "running"
    assert "not written its stage.json" in texts


def test_nothing_evaluated(run):
    shutil.rmtree(run / "stages/evaluate")
    report, texts = _notes(run)
    assert report.runs[0].status == "partial"
    assert report.rows == []
    assert "stage 'evaluate' has not run yet" in texts
    assert report.headline == "not complete: nothing has been evaluated"


def test_seed_that_is_missing(run):
    for stage in ("student", "evaluate"):
        shutil.rmtree(run / "stages" / stage / "seed-1")
    report, texts = _notes(run)
    assert report.runs[0].status == "partial"
    assert "stage 'student' has not run for seed 1" in texts
    assert "one seed proves nothing" in texts
    assert report.gain.ci95 is None


def test_stage_with_a_seed_of_its_own_runs_once(run):
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["stages"][0]["seed"] = 0
    (run / "recipe.json").write_text(json.dumps(recipe))
    shutil.rmtree(run / "stages/student/seed-1")
    assert "has not run" not in _notes(run)[1]


def test_evaluation_that_is_missing(run):
    (run / "stages/evaluate/seed-1/evaluation.json").unlink()
    assert "evaluation.json is missing" in _notes(run)[1]


def test_recipe_and_environment_that_are_missing(run):
    for name in ("recipe.yaml", "recipe.json", "environment.json"):
        (run / name).unlink()
    texts = _notes(run)[1]
    assert "the recipe is missing" in texts
    assert "environment.json is missing" in texts


def test_control_and_teacher_that_were_not_evaluated(report_of):
    report = report_of({"student": [0.9, 0.91]})
    assert report.headline == (
        "student: accuracy 90.5 %; the teacher was not evaluated beside it; "
        "this student has no control, so nothing says what the teacher was worth"
    )
    assert to_html(report)


def test_run_without_a_student(report_of):
    report = report_of({"model": [0.9, 0.91]})
    assert report.comparisons == []
    assert "no student has been evaluated; model reaches 90.5 %" in report.headline
    assert to_html(report)


def test_run_that_has_only_begun(tmp_path):
    run = tmp_path / "run"
    (run / "stages").mkdir(parents=True)
    (run / "recipe.json").write_text(json.dumps({"stages": {"teacher": {"kind": "train"}}, "seeds": [0]}))
    report, texts = _notes(run)
    assert "stage 'teacher' has not run yet" in texts
    assert write_report(run).html.is_file()
    assert report.gain is None
