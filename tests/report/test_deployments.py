"""Files that were measured for deployment: what the report says of them, draws, and calls unbeaten."""

import json

import pytest

from understudy.report import build_report, read_run, table, to_html, to_markdown, write_report
from understudy.report.pareto import Point, front, pareto_charts


@pytest.fixture
def run(example, tmp_path):
    """A run whose recipe is not known, so that its stages are taken as they are."""
    made = example.plain_run(tmp_path / "run", {"teacher": [0.97], "student": [0.96], "control": [0.94]}, recipe=False)
    return example.deploy_stage(made)


def test_the_report_has_the_measurements_as_data(run):
    (found,) = build_report([read_run(run)]).deployments
    assert (found.stage, found.seed, found.kept, found.file) == (
        "deploy",
        0,
        True,
        "stages/deploy/seed-0/chosen/student.onnx",
    )
    names = [(each.name, each.runtime, each.chosen) for each in found.contenders]
    assert [name for *name, chosen in names if chosen] == [["student.onnx", "openvino"]]
    chosen = found.contenders[3]
    assert chosen.path == "stages/export/seed-0/student.onnx"
    assert (chosen.latency.median_ms, chosen.latency.threads, chosen.latency.p99_ms) == (0.9, 2, 1.35)
    assert chosen.throughput == pytest.approx(8 / 0.004)
    assert (chosen.decided, chosen.reported) == (0.97, 0.96)
    assert found.contenders[4].failed == "SIGSEGV <b>"
    assert found.contenders[4].latency is None


def test_a_step_that_did_not_pay_and_a_broken_bound_are_notes(run, tmp_path, example):
    notes = [note.text for note in build_report([read_run(run)]).notes]
    assert example.CHOICE["notes"][0] in notes
    assert example.CHOICE["text"] not in notes
    broken = example.deploy_stage(
        tmp_path / "broken", choice={**example.CHOICE, "kept": False, "text": "no file loses at most 2 points"}
    )
    assert "no file loses at most 2 points" in [note.text for note in build_report([read_run(broken)]).notes]
    none = example.deploy_stage(tmp_path / "none", choice=None)
    report = build_report([read_run(none)])
    assert any("none could be measured" in note.text for note in report.notes)
    assert report.deployments[0].file is None
    to_html(report), to_markdown(report)


def test_a_run_that_only_deploys_has_a_headline(tmp_path, example):
    run = example.deploy_stage(tmp_path / "run")
    report = build_report([read_run(run)])
    assert report.headline == f"deploy {example.CHOICE['text']}"
    assert not any("nothing has been evaluated" in note.text for note in report.notes)


def test_a_missing_record_is_told(run):
    (run / "stages/deploy/seed-0/deployment.json").unlink()
    assert any("its deployment.json is missing" in note.text for note in build_report([read_run(run)]).notes)


def test_every_format_shows_them(run, example):
    report = build_report([read_run(run)])
    text = to_markdown(report)
    line = next(line for line in text.splitlines() if line.startswith("| **student.onnx**"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == [
        "**student.onnx**",
        "openvino",
        "–",
        "yes",
        "97.00 %",
        "96.00 %",
        "4.00 kB",
        "0.900 ms",
        "1.35 ms",
        "2.00 k /s",
        "5.00 MB",
    ]
    assert "| student-int8.onnx | onnxruntime | student.onnx, int8 | yes |" in text
    assert "SIGSEGV &lt;b&gt;" in text
    page = to_html(report)
    assert "What to deploy" in page
    assert "failed: SIGSEGV &lt;b&gt;" in page
    assert "Take: stages/export/seed-0/student.onnx" in page
    assert "Accuracy against latency of one sample" in page
    assert any(example.CHOICE["text"] in str(part) for part in table(report).renderables)
    paths = write_report(run)
    assert json.loads(paths.json.read_text())["deployments"][0]["contenders"][3]["chosen"] is True


def test_points_of_the_charts_are_all_candidates_and_the_front_is_named(run):
    report = build_report([read_run(run)])
    latency, size = pareto_charts(report.deployments[0], report.rows)[:2]
    assert {mark.title for mark in latency.marks} == {
        "teacher in torch eager",
        "student.onnx in onnxruntime",
        "student.onnx in openvino",
        "student-int8.onnx in onnxruntime",
    }
    assert {mark.label for mark in latency.marks if mark.label} == {"student.onnx", "teacher"}
    assert {mark.title for mark in size.marks} >= {"control", "student"}  # evaluated, but not timed in turns with these
    (line,) = latency.arrows
    assert len(line.points.split()) == 2
    places = [tuple(map(float, point.split(","))) for point in line.points.split()]
    assert places[0][0] < places[1][0]
    assert places[0][1] > places[1][1]  # better is higher up


def test_the_front_is_what_nothing_beats():
    def point(name, quality, cost):
        return Point(name, name, "student", quality, cost, None, None)

    points = [point("a", 0.9, 1), point("b", 0.9, 2), point("c", 0.95, 3), point("d", 0.94, 4), point("e", 0.8, 1)]
    assert [each.name for each in front(points, "latency_ms")] == ["a", "c"]


def test_the_charts_of_a_stage_are_those_of_its_first_seed(tmp_path, example):
    page = to_html(build_report([read_run(example.deploy_stage(tmp_path / "run", seeds=(0, 1)))]))
    assert page.count("<figcaption>Accuracy against latency of one sample</figcaption>") == 1
    assert "run, deploy, seed 1: what to deploy" in page
