"""Markdown, the terminal, and how numbers read."""

import pytest
from rich.console import Console

from understudy.report import build_report, read_run, table, to_markdown
from understudy.report.axes import cost_axis, quality_axis, span_axis
from understudy.report.schema import Summary
from understudy.report.wording import count, duration, milliseconds, points, quality, quality_summary, size, times

ALL = {"teacher": [0.97, 0.972], "student": [0.961, 0.958], "control": [0.949, 0.952]}


def _printed(report, width=160):
    console = Console(width=width, record=True, file=open("/dev/null", "w"), color_system=None)  # noqa: SIM115, PTH123
    console.print(table(report))
    console.file.close()
    return console.export_text()


def test_markdown_holds_the_result(digits_run):
    text = to_markdown(build_report([read_run(digits_run)]))
    assert text.startswith("# digits\n\n**")
    assert "| student (mlp 24) | student |" in text
    assert "100 of 1,300 images are labelled" in text
    assert "## What the teacher was worth" in text
    assert "```yaml\n# Digits" in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(line.endswith(" |") for line in lines)


def test_each_gain_of_several_says_whose_it_is(example, tmp_path):
    runs = [read_run(example.plain_run(tmp_path / name, ALL)) for name in ("one", "two")]
    text = to_markdown(build_report(runs))
    assert "\none, student: No gain" in text


def test_where_size_and_time_of_int8_are_to_be_found(report_of):
    told = "PyTorch computes 'student' in float: size and latency of int8 are those of the files."
    unmeasured = {"precision": "int8, computed in float", "bytes": None, "latency_ms": None}
    report = report_of(ALL, rows={"student": unmeasured})
    assert told in to_markdown(report)
    assert report.rows[1].precision == "int8, computed in float"
    assert "PyTorch computes" not in to_markdown(report_of(ALL))


def test_markdown_escapes_text_of_the_user(report_of):
    report = report_of(ALL, rows={"student": {"name": "a|b <img src=x> [c](d) `e`\nf", "architecture": None}})
    line = next(line for line in to_markdown(report).splitlines() if "&lt;img" in line)
    assert line.count(" | ") == 6
    assert "<img" not in line
    assert "\\|" in line
    assert "\\`e\\` f" in line


def test_recipe_with_a_fence_stays_inside_its_fence(example, tmp_path):
    run = example.plain_run(tmp_path / "run", ALL)
    (run / "recipe.yaml").write_text("```\nname: x\n```\n# heading\n")
    assert "````yaml\n```\nname: x\n```\n# heading\n````" in to_markdown(build_report([read_run(run)]))


def test_terminal_shows_table_and_notes(report_of):
    text = _printed(report_of({"teacher": [0.97], "student": [0.96], "control": [0.94]}))
    assert "9× smaller" in text
    assert "96.00 %" in text
    assert "4.00 kB" in text
    assert "! one seed proves nothing" in text


def test_terminal_reads_no_markup_in_names(report_of):
    report = report_of(ALL, rows={"student": {"name": "[red]me[/red]"}})
    assert "[red]me[/red]" in _printed(report)


def test_terminal_with_several_runs(example, tmp_path):
    runs = [read_run(example.plain_run(tmp_path / name, ALL)) for name in ("one", "two")]
    text = _printed(build_report(runs))
    assert "one / evaluate" in text
    assert "two / evaluate" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (count(0), "0"),
        (count(999), "999"),
        (count(1810), "1.81 k"),
        (count(11_200_000), "11.2 M"),
        (size(512), "512 B"),
        (size(44_700_000), "44.7 MB"),
        (milliseconds(0.0545), "0.0545 ms"),
        (milliseconds(14.1), "14.1 ms"),
        (milliseconds(2500), "2.50 s"),
        (duration(4.25), "4.2 s"),
        (duration(41), "41 s"),
        (duration(200), "3 min 20 s"),
        (duration(7500), "2 h 5 min"),
        (times(9.0), "9×"),
        (times(1.44), "1.4×"),
        (times(93.4), "93×"),
        (quality("accuracy", 0.9731), "97.31 %"),
        (quality("errors", 67), "67"),
        (quality("kl_from_teacher", 0.1834), "0.183 nats"),
        (quality("accuracy", float("nan")), "–"),
        (points("accuracy", 0.018, sign=True), "+1.8"),
        (points("accuracy", -0.0004, sign=True), "−0.04"),
        (points("accuracy", 0.0, sign=True), "0.0"),
    ],
)
def test_numbers_as_people_read_them(text, expected):
    assert text == expected


def test_spread_and_mean_have_the_same_decimals():
    errors = Summary(mean=13.333, std=4.04, n=3, values=[11, 11, 18], seeds=[0, 1, 2])
    assert quality_summary("errors", errors) == "13.3 ± 4.0"


def test_axes():
    sizes = cost_axis([8_000, 130_000], start=50, end=450)
    assert sizes.logarithmic
    assert 50 < sizes.at(8_000) < sizes.at(130_000) < 450
    assert [tick.label for tick in sizes.ticks(size, most=5)] == ["10.0 kB", "20.0 kB", "50.0 kB", "100 kB"]
    assert not cost_axis([1.0, 2.0], start=0, end=1).logarithmic
    shares = quality_axis([0.9, 1.0], start=200, end=10, most=1.0)
    assert shares.high == 1.0
    assert shares.at(1.0) == 10
    same = quality_axis([0.5, 0.5], start=200, end=10)
    assert same.ticks(str)
    assert span_axis([3.0, 3.0], start=0, end=100).at(3.0) == 0
