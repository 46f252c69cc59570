import pytest

TEACHER = [0.970, 0.970, 0.970]
STUDENT = [0.966, 0.966, 0.966]


def _with_gain(*gains):
    return {"teacher": TEACHER, "student": STUDENT, "control": [0.966 - gain for gain in gains]}


def test_as_the_issue_words_it(report_of):
    report = report_of(_with_gain(0.0168, 0.0180, 0.0192))
    assert (
        report.headline
        == "9× smaller, 6× faster, 0.4 points below the teacher; the teacher was worth +1.8 ± 0.3 points"
    )


def test_interval_with_zero_shows_no_gain(report_of):
    report = report_of(_with_gain(0.01, -0.008, 0.004))
    assert "no gain from the teacher was shown: +0.2 ± 2.3 points over 3 seeds, an interval that includes 0" in (
        report.headline
    )
    assert not report.gain.shown
    assert "was worth" not in report.headline


def test_exactly_no_gain(report_of):
    assert "no gain from the teacher was shown" in report_of(_with_gain(0.0, 0.0, 0.0)).headline


def test_worse_than_the_control(report_of):
    report = report_of(_with_gain(-0.010, -0.011, -0.012))
    assert "the teacher did harm: the student is 1.1 ± 0.2 points worse" in report.headline
    assert any("worse than its control" in note.text for note in report.notes)


def test_a_control_that_lacks_something_else_is_told_so(report_of):
    lacking = {"rows": {"control": {"lacks": "the training of the generator"}}}
    gains = [((0.017, 0.018, 0.019), "; the training of the generator was worth +1.8")]
    gains += [((0.01, -0.008, 0.004), "no gain from the training of the generator was shown")]
    gains += [((-0.010, -0.011, -0.012), "the training of the generator did harm")]
    for gain, sentence in gains:
        report = report_of(_with_gain(*gain), **lacking)
        assert sentence in report.headline
        assert report.gain.of == "the training of the generator"
        assert not any("no teacher" in note.text or "gain from the teacher" in note.text for note in report.notes)


def test_several_things_were_worth_something(report_of):
    report = report_of(_with_gain(0.017, 0.018, 0.019), rows={"control": {"lacks": "the source's weights"}})
    assert "; the source's weights were worth +1.8 ± 0.2 points" in report.headline


def test_what_would_show_a_gain_depends_on_what_the_control_lacks(report_of):
    gains = _with_gain(0.01, -0.008, 0.004)
    for lacks, advice in ((None, "a better teacher moves it"), ("its own average", "a longer training moves it")):
        texts = [note.text for note in report_of(gains, rows={"control": {"lacks": lacks}}).notes]
        assert any(advice in text for text in texts), texts


def test_a_student_that_has_no_teacher_is_not_said_to_have_one_that_was_not_evaluated(report_of):
    gains = {name: values for name, values in _with_gain(0.017, 0.018, 0.019).items() if name != "teacher"}
    report = report_of(gains, rows={"control": {"lacks": "its own average"}, "student": {"teacher": None}})
    assert report.headline == "student: accuracy 96.6 %; its own average was worth +1.8 ± 0.2 points"
    assert not any("teacher" in note.text for note in report.notes)


def test_one_seed_proves_nothing(report_of):
    report = report_of({"teacher": [0.97], "student": [0.96], "control": [0.94]})
    assert report.headline.endswith("with the teacher +2.0 points over the control, but one seed proves nothing")
    assert any("one seed proves nothing" in note.text for note in report.notes)


def test_bigger_and_slower_is_said(report_of):
    slow = {"median": 0.9, "batch": 1, "threads": 2, "runtime": "torch eager"}
    report = report_of(_with_gain(0.01, 0.01, 0.011), rows={"student": {"bytes": 50_400, "latency_ms": slow}})
    assert report.headline.startswith("1.4× bigger, 1.5× slower, 0.4 points below the teacher")
    texts = [note.text for note in report.notes]
    assert any("is bigger than its teacher" in text for text in texts)
    assert any("is slower than its teacher" in text for text in texts)


@pytest.mark.parametrize(
    ("size", "words"), [(36_000, "the same size"), (35_000, "the same size"), (30_000, "1.2× smaller")]
)
def test_sizes_near_each_other(report_of, size, words):
    assert report_of(_with_gain(0.01, 0.01, 0.011), rows={"student": {"bytes": size}}).headline.startswith(words)


def test_parameters_where_bytes_are_unknown(report_of):
    rows = {role: {"bytes": None, "latency_ms": None} for role in ("teacher", "student")}
    assert report_of(_with_gain(0.01, 0.01, 0.011), rows=rows).headline.startswith("9× smaller, 0.4 points below")


def test_better_than_the_teacher_only_when_shown(report_of):
    better = {"teacher": [0.90, 0.91, 0.905], "student": [0.93, 0.94, 0.936], "control": [0.9, 0.9, 0.9]}
    assert "3.0 points above the teacher" in report_of(better).headline


def test_better_than_the_teacher_by_chance_is_level(report_of):
    lucky = {"teacher": [0.90, 0.91, 0.905], "student": [0.91, 0.90, 0.908], "control": [0.9, 0.9, 0.9]}
    assert "level with the teacher" in report_of(lucky).headline


def test_metric_that_is_no_share_keeps_its_unit(report_of):
    rows = {
        role: {"metrics": {"reward": value}}
        for role, value in (("teacher", 20.0), ("student", 18.0), ("control", 15.5))
    }
    report = report_of({"teacher": [0, 0], "student": [0, 0], "control": [0, 0]}, rows=rows, metric="reward")
    assert "2.0 reward below the teacher" in report.headline
    assert "points" not in report.headline
