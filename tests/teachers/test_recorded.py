"""A recorded teacher: it answers as the live one did, and notices when it is asked about something else."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from conformance.recordings import NAMES, Picks, split_of, written
from understudy import Batch, CrossEntropy, Distiller, InputError, SoftTargets
from understudy.batch import IGNORE_INDEX
from understudy.recorder import record
from understudy.recordings import Recording, Storage
from understudy.recordings.shards import find_shards
from understudy.sources.loader import Loader
from understudy.sources.splits import Split
from understudy.teachers import Recorded, Teacher
from understudy.views import Views

VIEWS = Views(shift=1)
LAYERS = {"image": "whole", "row": "pooled"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("recorded") / "dense"
    keep = Storage(dtype="float32", layers=LAYERS)
    record(Picks(), split_of(30), path, views=VIEWS, count=2, seed=3, keep=keep, batch_size=8)
    return path


def shown(split: Split, *, epoch: int = 0, seed: int = 5, view_seed: int = 3, views: Views | None = VIEWS) -> Batch:
    loader = Loader(split, batch_size=11, seed=seed, views=views, view_seed=view_seed, cycle=2)
    loader.set_epoch(epoch)
    return next(iter(loader))


def test_it_answers_what_the_live_teacher_answers(folder) -> None:
    teacher, live = Recorded(folder), Picks()
    assert isinstance(teacher, Teacher)
    for epoch in range(5):
        batch = shown(split_of(30), epoch=epoch, seed=epoch)
        assert batch.view == epoch % 2
        answer, expected = teacher.observe(batch, tuple(LAYERS)), live.observe(batch, tuple(LAYERS))
        assert torch.equal(answer.logits, expected.logits)
        assert answer.top is None
        assert list(answer.features) == list(LAYERS)
        assert all(torch.equal(answer.features[path], expected.features[path]) for path in LAYERS)
        assert list(teacher.observe(batch, ("row",)).features) == ["row"]
        assert not answer.logits.requires_grad


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
def test_students_in_lower_precision_are_answered_the_same(tmp_path, monkeypatch, dtype) -> None:
    """Autocast cannot join the float16 of several files on a CPU."""
    monkeypatch.setattr("understudy.recorder.SHARD_ROWS", 8)
    record(Picks(), split_of(30), tmp_path, keep=Storage(dtype=dtype, layers=LAYERS), batch_size=8)
    assert len(find_shards(tmp_path, None)) > 1
    batch = shown(split_of(30), views=None)
    expected = Recorded(tmp_path).observe(batch, tuple(LAYERS))
    with torch.autocast("cpu", torch.bfloat16):
        answer = Recorded(tmp_path).observe(batch, tuple(LAYERS))
    assert torch.equal(answer.logits, expected.logits)
    assert all(torch.equal(answer.features[path], expected.features[path]) for path in LAYERS)


def test_a_folder_or_what_was_opened_are_the_same(folder) -> None:
    batch = shown(split_of(30))
    answers = [Recorded(each).observe(batch).logits for each in (folder, str(folder), Recording(folder))]
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


def test_a_sample_may_come_twice_and_none_may_come(folder) -> None:
    batch = shown(split_of(30))
    answer = Recorded(folder).observe(batch).logits
    chosen = torch.tensor([3, 3, 0])
    few = replace(batch, inputs=batch.inputs[chosen], ids=batch.ids[chosen], targets=batch.targets[chosen])
    assert torch.equal(Recorded(folder).observe(few).logits, answer[chosen])
    none = replace(batch, inputs=batch.inputs[:0], ids=batch.ids[:0], targets=batch.targets[:0])
    teacher = Recorded(folder)
    assert teacher.observe(none).logits.shape == (0, 6)
    with pytest.raises(InputError, match="not what the teacher was shown"):  # no sample does not count as the first one
        teacher.observe(replace(batch, inputs=1 - batch.inputs))


def test_a_batch_without_ids_is_refused(folder) -> None:
    with pytest.raises(InputError, match=r"answers by the ids of the samples, and the batch has none; use us\.Loader"):
        Recorded(folder).observe(replace(shown(split_of(30)), ids=None))


def test_layers_that_were_not_kept_are_named(folder, tmp_path) -> None:
    with pytest.raises(InputError, match=r"does not hold the teacher's layers 'deep'; recorded are: 'image', 'row'"):
        Recorded(folder).observe(shown(split_of(30)), ("row", "deep"))
    bare = Recorded(record(Picks(), split_of(30), tmp_path / "bare"))
    with pytest.raises(InputError, match="recorded are: none"):
        bare.observe(shown(split_of(30), views=None), ("row",))


def test_views_and_samples_that_were_not_recorded_are_named(folder) -> None:
    batch = shown(split_of(30))
    with pytest.raises(InputError, match="has no samples in view 7; its views are: 0, 1"):
        Recorded(folder).observe(replace(batch, view=7))
    with pytest.raises(InputError, match="has no samples as they are"):
        Recorded(folder).observe(shown(split_of(30), views=None))
    with pytest.raises(InputError, match=r"11 of 11 samples of the batch are not in the recording"):
        Recorded(folder).observe(shown(split_of(30, first=5000)))


def shuffled(split: Split) -> Split:
    return replace(split, ids=split.ids.roll(1))


def relabelled(split: Split) -> Split:
    return replace(split, targets=(split.targets + 1) % len(NAMES))


def resized(split: Split) -> Split:
    return replace(split, inputs=split.inputs.repeat_interleave(2, 2).repeat_interleave(2, 3))


def one_pixel_is_other(split: Split) -> Split:
    inputs = split.inputs.clone()
    inputs[:, 0, 3, 3] ^= 1
    return replace(split, inputs=inputs)


OTHERS = {
    "shuffled": (shuffled(split_of(30)), {}, r"labelled otherwise|not what the teacher was shown"),
    "relabelled": (
        relabelled(split_of(30)),
        {},
        r"11 of 11 samples are labelled otherwise .* sample \d+ had label \d, ",
    ),
    "resized": (resized(split_of(30)), {}, r"11 of 11 samples in view 0 are not what .* size of images"),
    "altered": (one_pixel_is_other(split_of(30)), {}, r"of 11 samples in view 0 are not what the teacher was shown"),
    "other seed": (split_of(30), {"view_seed": 4}, r"samples in view 0 are not what .* seed of the views \(3\)"),
    "other views": (split_of(30), {"views": Views(shift=2)}, "samples in view 0 are not what"),
    "flipped": (split_of(30), {"views": Views(shift=1, flip=True)}, "samples in view 0 are not what"),
    "mixed": (split_of(30), {"views": Views(shift=1, mixup=1.0)}, "samples in view 0 are not what"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_set_is_noticed_in_the_first_batch(folder, name) -> None:
    split, options, message = OTHERS[name]
    teacher = Recorded(folder)
    for _ in range(2):  # and as long as it is another one
        with pytest.raises(InputError, match=message):
            teacher.observe(shown(split, **options))
    teacher.observe(shown(split_of(30)))
    with pytest.raises(InputError, match=message.replace("view 0", "view 1")):
        teacher.observe(shown(split, epoch=1, **options))


def test_labels_that_are_not_known_on_one_side_are_no_difference(folder, tmp_path) -> None:
    split = split_of(30)
    bare = replace(split, targets=torch.full_like(split.targets, IGNORE_INDEX))
    Recorded(folder).observe(shown(bare))
    Recorded(folder).observe(replace(shown(split), targets=None))
    record(Picks(), bare, tmp_path / "bare", views=VIEWS, seed=3)
    Recorded(tmp_path / "bare").observe(shown(split))


def test_labels_of_mixed_samples_are_compared_by_the_first(tmp_path) -> None:
    split, views = split_of(30), Views(mixup=1.0)
    teacher = Recorded(record(Picks(), split, tmp_path / "mixed", views=views, count=2, seed=3))
    teacher.observe(shown(split, views=views))
    with pytest.raises(InputError, match="11 of 11 samples are labelled otherwise"):
        Recorded(tmp_path / "mixed").observe(shown(relabelled(split), views=views))


def test_inputs_are_compared_in_the_first_batch_of_each_view_only(folder) -> None:
    teacher, batch = Recorded(folder), shown(split_of(30))
    teacher.observe(batch)
    assert teacher.observe(replace(batch, inputs=None)).logits.shape == (11, 6)  # nothing looks at them any more


def test_a_recording_without_checksums_is_believed(tmp_path) -> None:
    ids = torch.arange(5)
    path = written(tmp_path / "told", ids, [(None, 0, {"logits": torch.eye(5, 6)})])
    answer = Recorded(path).observe(Batch(inputs=torch.zeros(3, 1), ids=torch.tensor([4, 0, 2])))
    assert torch.equal(answer.logits, torch.eye(5, 6)[[4, 0, 2]])


def test_what_is_not_whole_or_damaged_is_refused(tmp_path) -> None:
    path = tmp_path / "recording"
    record(Picks(), split_of(30), path)
    (shard,) = find_shards(path, None)
    content = shard.path.read_bytes()
    shard.path.write_bytes(content[:-1])
    with pytest.raises(InputError, match="is damaged"):
        Recorded(path).observe(shown(split_of(30), views=None))
    shard.path.unlink()
    with pytest.raises(InputError, match=r"is not whole: rows 0 to 30 of samples as they are \(train\) are missing"):
        Recorded(path)
    with pytest.raises(InputError, match="there is no recording in"):
        Recorded(tmp_path / "nothing")


@pytest.mark.parametrize(
    "keep", [Storage(dtype="float32"), Storage(dtype="float32", top=2, temperatures=(4.0,))], ids=str
)
def test_a_student_learns_from_it_as_from_the_live_one(tmp_path, keep) -> None:
    split = split_of(30)
    record(Picks(), split, tmp_path / "recording", views=VIEWS, count=2, seed=3, keep=keep)
    student = nn.Sequential(nn.Flatten(), nn.Linear(36, 6))
    batch, objective = shown(split), 0.5 * CrossEntropy() + SoftTargets()
    steps = [
        Distiller(student, teacher, objective, example=batch)(batch)
        for teacher in (Picks(), Recorded(tmp_path / "recording"))
    ]
    if keep.top is None:
        assert torch.equal(steps[0].loss, steps[1].loss)
    else:
        assert 0.0 < steps[1].terms["soft_targets"] < steps[0].terms["soft_targets"]
    distiller = Distiller(student, Recorded(tmp_path / "recording"), objective, example=batch)
    assert {name.split(".")[0] for name in distiller.state_dict()} == {"student"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("top", [None, 2])
def test_answers_come_to_the_device_of_the_batch(tmp_path, top) -> None:
    record(Picks(), split_of(30), tmp_path / "recording", keep=Storage(top=top, layers=LAYERS))
    batch = shown(split_of(30), views=None).to("cuda")
    answer = Recorded(tmp_path / "recording").observe(batch, tuple(LAYERS))
    tensors = [answer.dense, answer.logits, *answer.features.values()]
    assert {tensor.device.type for tensor in tensors} == {"cuda"}
