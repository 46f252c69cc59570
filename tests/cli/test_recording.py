"""``understudy recording``: what is in it, how good the teacher was, and what is wrong with it."""

import json
import math

import pytest
import torch
from safetensors import safe_open
from torch import nn

from understudy.batch import IGNORE_INDEX
from understudy.cli.main import main
from understudy.recorder import record
from understudy.recordings import Manifest, Recording, Storage
from understudy.recordings import inspection as inspecting
from understudy.recordings.inspection import inspect_recording
from understudy.sources.splits import Split
from understudy.views import Views

CLASSES = ("cat", "dog", "owl", "eel")


def split_of(count: int, name: str, *, first: int, classes: tuple[str, ...] = CLASSES) -> Split:
    targets = torch.arange(count) % len(classes)
    targets[::5] = IGNORE_INDEX
    inputs = torch.randn(count, 1, 2, 2)
    return Split(inputs=inputs, targets=targets, ids=torch.arange(count) + first, classes=classes, name=name)


@pytest.fixture
def teacher() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(4, len(CLASSES)))


@pytest.fixture
def make(teacher, tmp_path):
    """A recording of 40 samples in two views and of 15 as they are."""

    def made(**settings) -> Recording:
        given = {"views": Views(shift=1), "count": 2, "keep": Storage(dtype="float32"), "batch_size": 8, **settings}
        plain = split_of(15, "validation", first=100)
        return record(teacher, split_of(40, "train", first=0), tmp_path / "made", plain=plain, name="net", **given)

    return made


def expected(recording: Recording, part: int, *, top: int | None = None) -> dict:
    """Accuracy, entropy, histogram and what is outside the top classes, sample by sample, from the files."""
    part = recording.manifest.parts[part]
    right, judged, entropies, outside, counts = 0, 0, [], [], [0] * len(CLASSES)
    for shard in recording.shards():
        if (shard.view is None) != (part.views == 0):
            continue
        with safe_open(shard.path, framework="pt") as file:
            logits = file.get_tensor("logits")
            kept = file.get_tensor("kept") if top else None
            tails = file.get_tensor("tails") if top else None
        for row in range(len(logits)):
            values = [math.exp(value) for value in logits[row].tolist()]
            best = max(range(len(values)), key=lambda place: values[place])
            if top:
                values.append(math.exp(float(tails[row, 0])))
                best = int(kept[row, best])
            shares = [value / sum(values) for value in values]
            entropies.append(-sum(share * math.log(share) for share in shares))
            outside.append(shares[-1])
            counts[best] += 1
            label = int(recording.samples.targets[shard.first + row])
            judged += label != IGNORE_INDEX
            right += label == best
    mean = sum(entropies) / len(entropies)
    return {"accuracy": right / judged, "entropy": mean, "outside": sum(outside) / len(outside), "top1": counts}


@pytest.mark.parametrize("at_once", [2**20, 12])
@pytest.mark.parametrize("top", [None, 2])
def test_what_the_json_says_is_what_the_files_hold(make, capsys, monkeypatch, top, at_once):
    monkeypatch.setattr(inspecting, "_AT_ONCE", at_once)  # three rows at a time, too
    recording = make(keep=Storage(dtype="float32", top=top))
    assert main(["recording", str(recording.folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"schema", "path", "recordings"}
    (one,) = found["recordings"]
    about = {"path", "samples", "answers", "files", "bytes", "bytes_per_answer", "splits"}
    state = {"whole", "missing", "damaged", "verified"}
    assert set(one) == about | state | set(Manifest.model_fields) - {"parts"}
    assert (one["samples"], one["answers"], one["files"]) == (55, 95, 3)
    assert (one["teacher"], one["classes"], one["whole"], one["verified"]) == ("net", list(CLASSES), True, False)
    assert one["bytes"] == sum(path.stat().st_size for path in recording.folder.rglob("*") if path.is_file())
    sizes = [shard.path.stat().st_size for shard in recording.shards()]
    assert one["bytes_per_answer"] == pytest.approx(sum(sizes) / 95)
    for part, split in enumerate(one["splits"]):
        wanted = expected(recording, part, top=top)
        assert (split["name"], split["views"]) == (("train", 2), ("validation", 0))[part]
        assert (split["samples"], split["labelled"]) == ((40, 32), (15, 12))[part]
        assert split["answers"] == (80, 15)[part]
        assert split["accuracy"] == pytest.approx(wanted["accuracy"])
        assert split["entropy"] == pytest.approx(wanted["entropy"], rel=1e-5)
        assert split["top1"] == wanted["top1"]
        assert split["outside_top"] == (pytest.approx(wanted["outside"], rel=1e-5) if top else None)


def test_people_get_a_table(make, capsys):
    recording = make(keep=Storage(top=2, layers={"1": "pooled"}))
    assert main(["recording", str(recording.folder), "--verify"]) == 0
    out = capsys.readouterr().out
    assert "teacher    net, weights " in out
    assert "logits of 4 classes as float16, top 2, pooled output of 1" in out
    assert "shifted by up to 1 px, seed 0" in out
    assert "whole, every file is as it was written" in out
    assert "outside top 2" in out
    assert [line.split()[0] for line in out.splitlines()[-4:]] == list(CLASSES)


def test_of_many_classes_the_most_frequent_are_shown(tmp_path, capsys):
    names = tuple(f"class{number}" for number in range(20))
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(4, 20))
    nn.init.zeros_(teacher[1].weight)
    teacher[1].bias.data = torch.arange(20.0)
    made = record(teacher, split_of(10, "train", first=0, classes=names), tmp_path)
    assert main(["recording", str(made.folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "and 8 more classes, all in --json"
    assert lines[-13].split() == ["class19", "10"]


def test_mixes_of_two_samples_are_not_judged_by_the_label_of_one(make):
    train, validation = inspect_recording(make(views=Views(mixup=1.0)).folder).splits
    assert train.accuracy is None
    assert validation.accuracy is not None


def test_rows_that_are_missing_are_named(make, capsys):
    recording = make()
    next((recording.folder / "view-001").iterdir()).unlink()
    assert main(["recording", str(recording.folder), "--json"]) == 1
    captured = capsys.readouterr()
    (one,) = json.loads(captured.out)["recordings"]
    assert (one["whole"], one["missing"]) == (False, ["rows 0 to 40 of view 1 (train)"])
    assert one["splits"][0]["answers"] == 40
    assert "is not whole: rows 0 to 40 of view 1 (train) are missing; record again, `understudy record" in captured.err


def flip(path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 16
    path.write_bytes(bytes(content))


def test_every_damaged_file_is_named(make, capsys):
    recording = make()
    paths = [shard.path for shard in recording.shards()]
    for path in paths[:2]:
        flip(path, -3)
    assert main(["recording", str(recording.folder), "--json"]) == 0, "only --verify reads every byte"
    assert json.loads(capsys.readouterr().out)["recordings"][0]["damaged"] == []
    assert main(["recording", str(recording.folder), "--verify", "--json"]) == 1
    captured = capsys.readouterr()
    (one,) = json.loads(captured.out)["recordings"]
    assert [text.split(" is damaged")[0] for text in one["damaged"]] == list(map(str, paths[:2]))
    assert one["verified"]
    assert all(f"{path} is damaged: its SHA-256 begins with" in captured.err for path in paths[:2])
    assert str(paths[2]) not in captured.err


def test_damaged_samples_and_answers_are_named_together(make, capsys):
    recording = make()
    flip(recording.folder / recording.manifest.samples, -1)
    flip(recording.shards()[2].path, -1)
    assert main(["recording", str(recording.folder), "--verify"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert recording.manifest.samples in captured.err
    assert f"{recording.shards()[2].path} is damaged" in captured.err


@pytest.mark.parametrize("size", [0, 5, 100])
def test_a_truncated_file_is_named_without_verify_too(make, capsys, size):
    recording = make()
    path = recording.shards()[0].path
    path.write_bytes(path.read_bytes()[:size])
    assert main(["recording", str(recording.folder)]) == 1
    captured = capsys.readouterr()
    assert "1 file is damaged" in captured.out
    assert f"{path} cannot be read" in captured.err
    assert captured.err.count(str(path)) == 1


def test_a_file_without_the_logits_is_named(make, capsys):
    recording = make()
    path = recording.shards()[0].path
    path.write_bytes((recording.folder / recording.manifest.samples).read_bytes())
    assert main(["recording", str(recording.folder)]) == 1
    assert "expected logits with 40 rows each" in capsys.readouterr().err


def test_the_recordings_of_a_run_are_listed(make, capsys, tmp_path):
    made = make().folder
    for seed in (0, 1):
        place = tmp_path / "run" / "stages" / "answers" / f"seed-{seed}"
        place.mkdir(parents=True)
        (place / "recording").symlink_to(made)
    assert main(["recording", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0].split("/")[-2] for line in lines[1:]] == ["seed-0", "seed-1"]
    assert main(["recording", str(tmp_path / "run" / "stages" / "answers"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["recordings"]) == 2
    assert main(["recording", str(tmp_path / "run" / "stages" / "answers" / "seed-1")]) == 0
    assert "likeliest class" in capsys.readouterr().out


def test_what_is_no_recording_ends_with_2(tmp_path, capsys):
    assert main(["recording", str(tmp_path)]) == 2
    assert "holds no recording; expected a folder with a manifest.json" in capsys.readouterr().err
    assert main(["recording", str(tmp_path / "absent")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["recordings", str(tmp_path)]) == 2
    assert f"Did you mean: understudy recording {tmp_path}" in capsys.readouterr().err


def test_a_broken_manifest_ends_with_1_and_hides_no_other_damage(make, capsys):
    recording = make()
    (recording.folder / "manifest.json").write_text("{}")
    path = recording.shards()[0].path
    flip(path, -1)
    assert main(["recording", str(recording.folder), "--verify"]) == 1
    err = capsys.readouterr().err
    assert "manifest.json" in err
    assert f"{path} is damaged" in err
