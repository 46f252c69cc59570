"""A run's `record` stages: alone, again, grown, and after somebody has touched what they left."""

import json
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from understudy import InputError, RunError
from understudy.cli.main import main
from understudy.engine import SilentProgress
from understudy.pipeline.check import deep_check
from understudy.pipeline.run import run
from understudy.recipe.loading import parse_recipe
from understudy.recorder import Team, record
from understudy.recordings import Recording
from understudy.report import build_report, read_run, to_markdown
from understudy.sources.splits import Split

RECIPE = """
version: 1
name: recorded
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: teacher
    model: {source: understudy, name: mlp, arguments: {hidden: [16]}}
    training: &training {epochs: 2, batch_size: 128, optimizer: {kind: adam, lr: 0.01}}
  - kind: train
    name: bystander
    model: {source: understudy, name: mlp, arguments: {hidden: [4]}}
    training: *training
  - kind: record
    name: answers
    teacher: teacher
    views: {shift: 1}
    count: 2
    keep: {dtype: float32}
  - kind: distill
    name: student
    teacher: answers
    model: {source: understudy, name: mlp, arguments: {hidden: [4]}}
    objective: [{kind: soft_targets}]
    training: *training
    control: false
"""


class Heard(SilentProgress):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


def go(out: Path, *changes: str, extend: bool = False, only: tuple[str, ...] | None = ("answers",)) -> list[str]:
    heard = Heard()
    run(parse_recipe(RECIPE, changes), out, progress=heard, only=only, extend=extend)
    return heard.lines


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    go(out)
    return out


@pytest.fixture
def copy(recorded, tmp_path) -> Path:
    """A run of one's own that has recorded."""
    out = tmp_path / "run"
    for path in recorded.rglob("*"):
        if path.is_file():
            (out / path.relative_to(recorded)).parent.mkdir(parents=True, exist_ok=True)
            (out / path.relative_to(recorded)).write_bytes(path.read_bytes())
    return out


def stage(out: Path, name: str = "answers") -> Path:
    return out / "stages" / name / "seed-0"


def told(out: Path) -> dict:
    return json.loads((stage(out) / "stage.json").read_text())


def shards(out: Path) -> dict[str, bytes]:
    folder = stage(out) / "recording"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("rows-*"))}


def test_only_what_a_stage_needs_is_run(recorded):
    assert sorted(path.name for path in (recorded / "stages").iterdir()) == ["answers", "teacher"]
    found = told(recorded)
    assert found["description"] == "recorded the answers of teacher for 1,438 samples in 2 views"
    assert {key: found["recording"][key] for key in ("samples", "views", "path")} == {
        "samples": 1438,
        "views": 2,
        "path": "recording",
    }
    assert found["recording"]["bytes"] == sum(map(len, shards(recorded).values()))


def test_what_is_recorded_is_not_asked_again_and_the_rest_of_the_run_goes_on(copy):
    assert go(copy)[-1] == "answers, seed 0: nothing has changed, skipped"
    before = shards(copy)
    go(copy, only=None)
    assert shards(copy) == before
    assert sorted(path.name for path in (copy / "stages").iterdir()) == ["answers", "bystander", "student", "teacher"]
    student = json.loads((stage(copy, "student") / "stage.json").read_text())
    assert student["teacher"] == ["teacher"], "whose answers they are"
    text = to_markdown(build_report([read_run(copy)]))
    assert "**answers**: recorded the answers of teacher for 1,438 samples in 2 views" in text
    assert "**student**: learnt from recorded answers, those of stage answers" in text


def test_saying_the_seed_that_a_stage_has_anyway_repeats_nothing(copy):
    assert all("nothing has changed, skipped" in line for line in go(copy, "stages.answers.seed=0"))


def test_students_of_other_seeds_and_with_more_epochs_than_views_see_what_was_recorded(copy):
    """A view that was not recorded, or of another seed, is refused by the teacher itself."""
    once = ("stages.teacher.seed=0", "stages.answers.seed=0")
    go(copy, *once, "seeds=[3]", "stages.student.training.epochs=5", only=("student",))
    student = copy / "stages" / "student" / "seed-3"
    assert json.loads((student / "stage.json").read_text())["status"] == "done"


def test_it_grows_by_views_and_by_samples(copy):
    before = shards(copy)
    go(copy, "stages.answers.count=3", extend=True)
    grown = shards(copy)
    assert before.items() < grown.items(), "what was there is not touched"
    assert told(copy)["recording"]["views"] == 3
    assert not (copy / "replaced").exists()
    small = copy.with_name("small")
    same = "stages.student.subset={samples: 50}"
    go(small, "stages.answers.subset={samples: 100}", same)
    few = shards(small)
    go(small, "stages.answers.subset={samples: 150}", same, extend=True)
    assert few.items() < shards(small).items()
    assert told(small)["recording"]["samples"] == 150 + 144


def test_without_leave_to_grow_a_changed_recording_is_set_aside(copy):
    lines = go(copy, "stages.answers.views.shift=2")
    assert any("its inputs have changed; the former one is in" in line for line in lines)
    (aside,) = (copy / "replaced").iterdir()
    assert Recording(aside / "recording").manifest.views.shift == 1
    assert Recording(stage(copy) / "recording").manifest.views.shift == 2


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ("stages.answers.views.shift=2", "views.shift: 1 in the recording, 2 now"),
        ("stages.answers.keep.dtype=float16", 'keep.dtype: "float32" in the recording, "float16" now'),
        ("stages.teacher.training.epochs=1", "weights: "),
        ("stages.answers.count=1", "asked for are 1"),
    ],
)
def test_what_cannot_grow_so_is_refused_and_left_as_it_was(copy, change, field):
    before, record_before = shards(copy), told(copy)
    with pytest.raises(InputError) as caught:
        go(copy, change, extend=True)
    assert field in str(caught.value)
    if "something else" in str(caught.value):
        assert f"`understudy record {copy / 'recipe.json'} --out {copy}`" in str(caught.value)
    assert shards(copy) == before
    assert told(copy) == record_before
    if "stages.teacher" not in change:
        assert go(copy)[-1] == "answers, seed 0: nothing has changed, skipped"


def test_rows_that_were_deleted_are_recorded_again_bit_for_bit(copy):
    before = shards(copy)
    gone = next((stage(copy) / "recording" / "view-001").iterdir())
    gone.unlink()
    assert "nothing has changed, skipped" not in go(copy)[-1]
    assert shards(copy) == before
    assert not (copy / "replaced").exists()


@pytest.mark.parametrize("harm", ["manifest", "samples", "another"])
def test_a_recording_that_is_not_the_stages_own_is_set_aside_and_made_again(copy, harm):
    before, folder = shards(copy), stage(copy) / "recording"
    if harm == "manifest":
        (folder / "manifest.json").write_text("{")
    elif harm == "samples":
        next(folder.glob("samples-*")).write_bytes(b"nothing")
    else:
        content = json.loads((folder / "manifest.json").read_text())
        del content["digest"]
        (folder / "manifest.json").write_text(json.dumps({**content, "view_seed": 5}))
    lines = go(copy)
    assert any("the former one is in" in line for line in lines)
    assert shards(copy) == before
    assert len(list((copy / "replaced").iterdir())) == 1


def test_temporary_files_of_a_killed_process_are_swept_up(copy):
    folder = stage(copy) / "recording"
    gone = next((folder / "view-001").iterdir())
    gone.unlink()
    litter = [folder / "view-001" / f".{gone.name}.12345", folder / ".manifest.json.7"]
    for path in litter:
        path.write_bytes(b"half")
    (folder / ".notes").write_text("a file of the user's own")
    go(copy)
    assert not any(path.exists() for path in litter)
    assert (folder / ".notes").exists()


def from_elsewhere(out: Path) -> str:
    return f"stages.student.teacher={{kind: recording, path: {stage(out) / 'recording'}}}"


def test_a_recording_of_other_data_is_refused_with_both_values_and_the_command(copy, tmp_path):
    given = from_elsewhere(copy)
    go(tmp_path / "same", given, only=("student",))
    with pytest.raises(InputError) as caught:
        go(tmp_path / "other", given, "data.carve=0.2", only=("student",))
    said = str(caught.value)
    then, now = (
        json.loads((run_ / "stages" / "student" / "seed-0" / "stage.json").read_text())
        for run_ in (tmp_path / "same", tmp_path / "other")
    )
    assert (then["status"], now["status"]) == ("done", "failed")
    recorded = Recording(stage(copy) / "recording").manifest.data
    assert f'data: "{recorded[:56]}' in said
    assert said.count("in the recording") == 1
    assert f"`understudy record {copy / 'recipe.json'} --out {copy}`" in said


def test_the_doctor_knows_strong_views_from_other_samples(copy):
    """The teacher was trained without views."""
    change = "stages.answers.views={shift: 2, cutout: 4}"
    go(copy, change)
    found = {finding.check: finding for finding in deep_check(parse_recipe(RECIPE, [from_elsewhere(copy)]))}
    assert "same_samples" not in found
    assert "reads the augmented samples much worse" in found["augmented_samples"].message


def test_the_doctor_looks_at_the_teacher_behind_a_recording():
    recipe = parse_recipe(RECIPE)
    (note,) = [finding for finding in deep_check(recipe) if finding.severity != "warning"]
    assert note.seen == "stage 'teacher' comes before"


def test_the_verb_tells_what_was_recorded_where_and_how_large(copy, capsys, tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text(RECIPE)
    assert main(["record", str(file), "--out", str(copy)]) == 0
    out = capsys.readouterr().out
    assert [word for word in out.splitlines()[0].split() if word != "as"] == [
        *("stage", "seed", "teacher", "samples", "views", "kept", "size", "time", "recording")
    ]
    assert out.splitlines()[1].split()[:6] == ["answers", "0", "teacher", "1,438", "2", "float32"]
    assert main(["record", str(file), "--out", str(copy), "--set", "stages.answers.count=3", "--extend", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"schema", "run", "recordings"}
    (one,) = found["recordings"]
    assert set(one) == {
        *("stage", "seed", "path", "teacher", "samples", "views", "bytes", "keep", "seconds"),
    }
    assert (one["views"], one["path"]) == (3, str(stage(copy) / "recording"))
    assert one["bytes"] == sum(map(len, shards(copy).values()))


def test_a_recipe_that_records_nothing_is_answered_with_the_lines_to_add(tmp_path, capsys):
    lines = RECIPE.splitlines(keepends=True)
    begin, end = lines.index("  - kind: record\n"), lines.index("  - kind: distill\n")
    text = "".join(lines[:begin] + lines[end:]).replace("teacher: answers", "teacher: teacher\n    views: {flip: true}")
    file = tmp_path / "r.yaml"
    file.write_text(text)
    assert main(["record", str(file), "--out", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert "recorded has no `record` stage, so there is nothing to record" in err
    added = err.split("\n\n")[1] + "\n"
    assert "views: {flip: true}" in added
    written = text.replace("  - kind: distill\n", f"{added}  - kind: distill\n")
    assert parse_recipe(
        written.replace("teacher: teacher\n    views: {flip: true}\n    model", "teacher: answers\n    model")
    )
    assert not (tmp_path / "run").exists()


def tiny() -> Split:
    classes = ("a", "b", "c")
    return Split(
        inputs=torch.randn(64, 4), targets=torch.arange(64) % 3, ids=torch.arange(64), classes=classes, name="s"
    )


class Together:
    """Threads in the place of processes."""

    def __init__(self, world: int) -> None:
        self.barrier = threading.Barrier(world, timeout=20)
        self.said: list[str | None] = [None] * world

    def team(self, rank: int) -> Team:
        def gathered(text: str | None) -> list[str | None]:
            self.said[rank] = text
            self.barrier.wait()
            said = list(self.said)
            self.barrier.wait()
            return said

        def wait() -> None:
            self.barrier.wait()
            if rank > 0:  # the others come later to whatever is next
                time.sleep(0.1)

        return Team(rank, len(self.said), wait, gathered)

    def run(self, work) -> list[BaseException | None]:
        problems: list[BaseException | None] = [None] * len(self.said)

        def one(rank: int) -> None:
            try:
                work(self.team(rank))
            except Exception as error:
                problems[rank] = error

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(len(self.said))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return problems


def test_where_the_first_process_refuses_all_end(tmp_path):
    network = nn.Linear(4, 3)
    record(network, tiny(), tmp_path, name="one")
    other = nn.Linear(4, 3)
    first, second = Together(2).run(lambda team: record(other, tiny(), tmp_path, team=team))
    assert isinstance(first, InputError)
    assert isinstance(second, RunError)
    assert "process 0 of those that record together could not go on" in str(second)
    assert "weights: " in str(second)


def test_where_another_process_fails_in_the_midst_all_end(tmp_path, monkeypatch):
    class Failing(nn.Module):
        """Gives NaN for the samples of one half."""

        def forward(self, inputs):
            return torch.zeros(len(inputs), 3).where(inputs[:, :1] < 32, float("nan"))

    split = tiny()
    split.inputs[:] = torch.arange(64.0)[:, None]

    monkeypatch.setattr("understudy.recorder.SHARD_ROWS", 32)
    first, second = Together(2).run(lambda team: record(Failing(), split, tmp_path, batch_size=4, team=team))
    assert isinstance(second, RunError)
    assert "NaN" in str(second)
    assert isinstance(first, RunError)
    assert "process 1 of those that record together could not go on: " in str(first)


def test_processes_that_see_the_first_shards_of_others_leave_no_hole(tmp_path, monkeypatch):
    monkeypatch.setattr("understudy.recorder.SHARD_ROWS", 8)
    network = nn.Linear(4, 3).eval()
    assert Together(3).run(lambda team: record(network, tiny(), tmp_path, batch_size=4, team=team)) == [None] * 3
    recording = Recording(tmp_path)
    assert recording.holes() == []
    assert [(shard.first, shard.last) for shard in recording.shards()] == [(row, row + 8) for row in range(0, 64, 8)]
