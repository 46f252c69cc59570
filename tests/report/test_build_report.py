import json
import math
from itertools import pairwise
from pathlib import Path

import pytest

from understudy.errors import InputError
from understudy.report import Report, build_report, read_run, write_report
from understudy.report.histories import MOST_POINTS

TEACHER, STUDENT, CONTROL = [0.97, 0.972, 0.969], [0.961, 0.958, 0.963], [0.949, 0.952, 0.951]
ALL = {"teacher": TEACHER, "student": STUDENT, "control": CONTROL}


def test_rows_put_the_seeds_together(report_of):
    report = report_of(ALL)
    assert [row.role for row in report.rows] == ["teacher", "student", "control"]
    student = report.rows[1]
    accuracy = student.metrics["accuracy"]
    assert accuracy.values == STUDENT
    assert accuracy.seeds == [0, 1, 2]
    assert accuracy.n == 3
    assert accuracy.mean == pytest.approx(sum(STUDENT) / 3)
    assert accuracy.std == pytest.approx(math.sqrt(sum((v - sum(STUDENT) / 3) ** 2 for v in STUDENT) / 2))
    assert (student.params, student.macs, student.bytes, student.latency_ms) == (1000, 800, 4000, 0.1)
    assert student.latency.threads == 2


def test_gain_is_student_minus_control_by_seed(report_of):
    gain = report_of(ALL).gain
    assert gain.values == pytest.approx([0.012, 0.006, 0.012])
    assert gain.difference == pytest.approx(0.01)
    assert gain.student - gain.control == pytest.approx(gain.difference)
    assert gain.paired
    assert gain.seeds == [0, 1, 2]
    assert gain.ci95[0] < gain.difference < gain.ci95[1]
    assert gain.shown


def test_a_student_that_was_trained_once_is_no_sample_of_three(report_of):
    once = {"seed": 7}
    report = report_of({**ALL, "student": [0.96] * 3, "control": [0.95] * 3}, rows={"student": once, "control": once})
    assert (report.gain.seeds, report.gain.ci95, report.gain.shown) == ([0], None, False)
    assert report.rows[1].metrics["accuracy"].n == 1
    assert report.rows[0].metrics["accuracy"].n == 3
    assert "one seed proves nothing" in report.headline


def test_teacher_quality(report_of):
    quality = report_of(ALL).teacher_quality
    assert quality.mean == pytest.approx(sum(TEACHER) / 3)
    assert quality.above_control == pytest.approx(sum(TEACHER) / 3 - sum(CONTROL) / 3)


def test_comparison_factors(report_of):
    comparison = report_of(ALL).comparisons[0]
    assert comparison.smaller == 9
    assert comparison.faster == pytest.approx(6)
    assert comparison.fewer_macs == 10
    assert comparison.below_teacher == pytest.approx((sum(TEACHER) - sum(STUDENT)) / 3)


def test_latencies_measured_differently_are_not_compared(report_of):
    other = {"median": 0.1, "batch": 1, "threads": 1, "runtime": "onnxruntime"}
    report = report_of(ALL, rows={"student": {"latency_ms": other}})
    assert report.comparisons[0].faster is None
    assert "faster" not in report.headline
    assert any("measured differently" in note.text for note in report.notes)


def test_control_of_another_student_is_not_used(report_of):
    report = report_of(ALL, rows={"control": {"control_of": "someone else"}})
    assert report.gain is None
    assert "no control" in report.headline


def test_teacher_below_the_control_is_said(report_of):
    report = report_of({"teacher": [0.9, 0.91], "student": [0.95, 0.94], "control": [0.95, 0.951]})
    assert any("below the control" in note.text for note in report.notes)


def test_number_that_is_not_finite_is_left_out(report_of):
    metrics = {"accuracy": 0.9, "kl_from_teacher": math.nan}
    report = report_of(ALL, rows={"student": {"metrics": metrics}})
    assert "kl_from_teacher" not in report.rows[1].metrics
    json.loads(report.to_json(), parse_constant=pytest.fail)


def test_json_reads_back_as_the_same_report(digits_run):
    report = build_report([read_run(digits_run)])
    back = Report.model_validate_json(report.to_json())
    assert back.model_dump(by_alias=True) == report.model_dump(by_alias=True)
    assert back.runs[0].directory is None
    assert str(digits_run) not in report.to_json()


def test_same_files_give_the_same_report(digits_run):
    first, second = (build_report([read_run(digits_run)]).to_json() for _ in range(2))
    assert first == second


def test_real_run(digits_run):
    report = build_report([read_run(digits_run)])
    assert report.runs[0].status == "done"
    assert report.notes == []
    assert report.gain.shown
    assert {(curve.role, curve.seed) for curve in report.curves} == {
        (role, seed) for role in ("teacher", "student", "control") for seed in range(3)
    }
    assert [confusion.role for confusion in report.confusions] == ["teacher", "student", "control"]
    for confusion in report.confusions:
        assert sum(map(sum, confusion.counts)) == 3 * 297
        assert confusion.seeds == [0, 1, 2]
    assert report.disagreements
    assert all((digits_run / sample.image).is_file() for sample in report.disagreements)


def test_many_classes_give_pairs_instead_of_a_matrix(report_of):
    classes = [f"class {place}" for place in range(60)]
    matrix = [[0] * 60 for _ in range(60)]
    matrix[3][4], matrix[5][6], matrix[7][7] = 2, 9, 100
    report = report_of(ALL, classes=classes, confusion={"student": matrix})
    (confusion,) = report.confusions
    assert confusion.counts is None
    assert [(pair.label, pair.predicted, pair.count) for pair in confusion.pairs] == [
        ("class 5", "class 6", 27),
        ("class 3", "class 4", 6),
    ]


def test_confusion_of_another_size_is_refused(report_of):
    with pytest.raises(InputError, match="10 classes"):
        report_of(ALL, confusion={"student": [[1, 2], [3, 4]]})


def test_long_histories_are_thinned(example, tmp_path):
    run = example.plain_run(tmp_path / "run", ALL)
    lines = [{"step": step, "epoch": step / 10, "loss": 1 / step} for step in range(1, 1001)]
    example.history_file(run / "stages/student/seed-0", lines)
    (curve,) = build_report([read_run(run)]).curves
    epochs = [point.epoch for point in curve.points]
    assert len(epochs) == MOST_POINTS
    assert (epochs[0], epochs[-1]) == (0.1, 100.0)
    assert all(before < after for before, after in pairwise(epochs))


def test_disagreements_begin_with_those_where_the_teacher_is_right(report_of):
    def sample(place, teacher):
        guesses = {"teacher": {"name": "teacher", "class": teacher}, "student": {"name": "student", "class": "1"}}
        return {"id": place, "label": "3", **guesses}

    report = report_of(ALL, disagreements=[sample(0, "2"), sample(1, "3")])
    assert [found.id for found in report.disagreements] == [1, 0]
    assert {found.seed for found in report.disagreements} == {0}


def test_runs_side_by_side(example, tmp_path):
    runs = [example.plain_run(tmp_path / name, ALL, name="same name") for name in ("one", "two")]
    report = build_report([read_run(run) for run in runs])
    assert [run.name for run in report.runs] == ["one", "two"]
    assert report.headline == "2 runs side by side: one, two"
    assert len(report.rows) == 6
    assert {comparison.run for comparison in report.comparisons} == {"one", "two"}
    assert report.notes == []


def test_the_same_run_twice_keeps_two_names(example, tmp_path):
    run = example.plain_run(tmp_path / "run", ALL)
    report = build_report([read_run(run), read_run(run)])
    assert len({part.name for part in report.runs}) == 2


def test_runs_on_different_samples_are_said_not_to_compare(example, tmp_path):
    first = example.plain_run(tmp_path / "one", ALL)
    second = example.plain_run(tmp_path / "two", ALL, samples=123)
    report = build_report([read_run(first), read_run(second)])
    assert any("compare within a run only" in note.text for note in report.notes)


def test_no_run_is_refused():
    with pytest.raises(InputError, match="at least one"):
        build_report([])


def test_schema_is_documented():
    """Every field of report.json stands in docs/report.md with the meaning that its class gives it."""
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
    schema = Report.model_json_schema(by_alias=True)
    for name, part in {"Report": schema, **schema["$defs"]}.items():
        _, _, section = text.partition(f"\n### {name}\n")
        section = section.partition("\n### ")[0]
        for field, content in part.get("properties", {}).items():
            if field != "directory":
                assert f"| `{field}` | " in section, f"docs/report.md: {name}.{field} is missing"
                assert content["description"] in section, f"docs/report.md: {name}.{field} is out of date"


def test_files_are_written(digits_run):
    paths = write_report(digits_run)
    assert [path.name for path in paths] == ["report.json", "report.md", "report.html"]
    assert json.loads(paths.json.read_text())["schema"] == 1
    assert paths.html.stat().st_size < 300_000, "the page is meant to be mailed"
    assert sorted(path.name for path in digits_run.iterdir() if path.name.startswith(".")) == []


def test_report_of_several_runs_is_written_elsewhere(example, tmp_path):
    run = example.plain_run(tmp_path / "run", ALL)
    report = build_report([read_run(run)])
    paths = write_report(tmp_path / "new" / "both", report=report)
    assert paths.html.is_file()
    assert not (run / "report.html").exists()
