import json
import re

import pytest

from understudy.errors import InputError
from understudy.report import build_report, read_run, write_report

TEACHER, STUDENT, CONTROL = [0.97, 0.972], [0.961, 0.958], [0.949, 0.952]


@pytest.fixture
def run(example, tmp_path):
    return example.plain_run(tmp_path / "run", {"teacher": TEACHER, "student": STUDENT, "control": CONTROL})


def test_reads_everything(digits_run):
    record = read_run(digits_run)
    assert record.recipe["name"] == "digits"
    assert record.recipe_text.startswith("# Digits")
    assert [(stage.name, stage.seed) for stage in record.stages] == [
        (name, seed) for name in ("teacher", "student", "evaluate") for seed in range(3)
    ]
    assert len(record.stages[0].history) == 10
    assert len(record.stages[3].control_history) == 30
    assert record.stages[-1].evaluation.samples == 297


def test_what_a_former_recipe_left_is_not_read(run):
    recipe = json.loads((run / "recipe.json").read_text())
    assert {stage.seed for stage in read_run(run).stages} == {0, 1}
    recipe["seeds"] = [1]
    (run / "recipe.json").write_text(json.dumps(recipe))
    (run / "stages/former/seed-1").mkdir(parents=True)
    assert {(stage.name, stage.seed) for stage in read_run(run).stages} == {("student", 1), ("evaluate", 1)}


def test_path_may_be_text(run):
    assert read_run(str(run)).directory == run


@pytest.mark.parametrize(
    ("make", "message"), [("none", "does not exist"), ("file", "is a file"), ("empty", "not a run")]
)
def test_not_a_run(tmp_path, make, message):
    path = tmp_path / "it"
    if make == "file":
        path.write_text("")
    elif make == "empty":
        path.mkdir()
    with pytest.raises(InputError, match=message) as caught:
        read_run(path)
    assert str(path) in str(caught.value)


def test_folder_of_runs_names_the_runs_in_it(run):
    with pytest.raises(InputError, match=re.escape(str(run))):
        read_run(run.parent)


@pytest.mark.parametrize(
    "name",
    [
        "recipe.json",
        "environment.json",
        "stages/evaluate/seed-1/evaluation.json",
        "stages/evaluate/seed-1/stage.json",
    ],
)
@pytest.mark.parametrize("cut", [0.0, 0.6])
def test_torn_file_is_named(run, name, cut):
    path = run / name
    text = path.read_text()
    path.write_text(text[: int(cut * len(text))])
    with pytest.raises(InputError, match="not valid JSON") as caught:
        read_run(run)
    assert str(path) in str(caught.value)


def test_file_that_is_no_text_is_named(run):
    path = run / "recipe.json"
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(InputError, match=r"recipe\.json cannot be read"):
        read_run(run)


def test_wrong_fields_are_all_named(run):
    path = run / "stages/evaluate/seed-0/evaluation.json"
    content = json.loads(path.read_text())
    del content["split"]
    content["rows"][1]["role"] = "pupil"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="split") as caught:
        read_run(run)
    assert "rows.1.role" in str(caught.value)
    assert str(path) in str(caught.value)


def test_newer_schema_is_refused(run):
    path = run / "stages/evaluate/seed-0/evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 2}))
    with pytest.raises(InputError, match="schema"):
        read_run(run)


def test_row_without_the_metric_is_named(run):
    path = run / "stages/evaluate/seed-0/evaluation.json"
    content = json.loads(path.read_text())
    content["rows"][0]["metrics"] = {"f1": 0.5}
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="'teacher' has no 'accuracy'"):
        read_run(run)


def test_line_that_is_being_written_is_left_out(run, example):
    folder = run / "stages/student/seed-0"
    example.history_file(folder, [{"step": 1, "epoch": 1, "loss": 2.0}])
    path = folder / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 2, "epo')
    assert len(read_run(run).stages[0].history) == 1


def test_line_torn_in_the_middle_is_named(run, example):
    folder = run / "stages/student/seed-0"
    example.history_file(folder, [{"step": 1, "epoch": 1, "loss": 2.0}])
    path = folder / "metrics.jsonl"
    path.write_text('{"step": 1\n' + path.read_text())
    with pytest.raises(InputError, match=r"metrics\.jsonl:1"):
        read_run(run)


def test_seeds_evaluated_differently_are_refused(run):
    path = run / "stages/evaluate/seed-1/evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"split": "validation"}))
    with pytest.raises(InputError, match="'validation', but 'test'"):
        build_report([read_run(run)])


def test_no_torch_is_imported(run):
    import subprocess
    import sys

    code = (
        "import sys; from understudy.report import write_report; write_report(sys.argv[1]);"
        "heavy = {'torch', 'datasets', 'transformers', 'accelerate', 'sklearn'} & sys.modules.keys();"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_full_disk_leaves_the_old_report(run):
    from understudy.errors import RunError

    paths = write_report(run)
    before = paths.json.read_bytes()
    paths.json.unlink()
    paths.json.mkdir()  # something that a file cannot replace
    with pytest.raises(RunError, match="cannot be written"):
        write_report(run)
    assert not list(run.glob(".*.tmp"))
    paths.json.rmdir()
    assert write_report(run).json.read_bytes() == before
