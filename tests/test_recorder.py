"""Recording a teacher: each sample is asked once, answers are those of the live one, and nothing is mixed up."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from conformance.recordings import NAMES, Picks, rows_asked, safetensors_in, split_of
from understudy import InputError, RunError
from understudy import recorder as module
from understudy.batch import IGNORE_INDEX
from understudy.recorder import record
from understudy.recordings import Recording, Storage
from understudy.recordings.shards import find_shards
from understudy.sources import BuiltinModel, build_model
from understudy.sources.loader import Loader
from understudy.sources.splits import Split
from understudy.sources.texts import Texts
from understudy.teachers import Recorded
from understudy.tokenizing import Words, bytes_of
from understudy.views import Views

DENSE = Storage(dtype="float32")
SHIFT = Views(shift=1)
ALL_VIEWS = {
    "none": None,
    "shift": SHIFT,
    "mixup": Views(shift=1, mixup=1.0),
    "cutmix": Views(flip=True, cutmix=0.7),
}


@pytest.fixture(autouse=True)
def _small_files(monkeypatch) -> None:
    """Several files even for few samples: 8 in each."""
    monkeypatch.setattr(module, "SHARD_ROWS", 8)


def half_labelled(count: int) -> Split:
    split = split_of(count)
    return replace(split, targets=split.targets.masked_fill(torch.arange(count) % 3 == 1, IGNORE_INDEX))


@pytest.mark.parametrize("views", ALL_VIEWS.values(), ids=ALL_VIEWS)
@pytest.mark.parametrize("form", ["all", "half labelled"])
def test_dense_answers_are_bit_for_bit_those_of_the_live_teacher(tmp_path, views, form) -> None:
    split, plain = half_labelled(37) if form == "half labelled" else split_of(37), split_of(9, name="val", first=5000)
    count = 1 if views is None else 3
    record(Picks(), split, tmp_path, views=views, count=count, seed=11, plain=plain, keep=DENSE, batch_size=4)
    recorded, live = Recorded(tmp_path), Picks()
    loader = Loader(split, batch_size=10, seed=2, views=views, view_seed=11, cycle=count)
    for epoch in range(5):
        loader.set_epoch(epoch)
        for batch in loader:
            assert torch.equal(recorded.observe(batch).logits, live.observe(batch).logits)
    for batch in Loader(plain, batch_size=4, seed=3):
        assert torch.equal(recorded.observe(batch).logits, live.observe(batch).logits)
    assert {(shard.view, shard.last - shard.first) for shard in recorded.recording.shards() if shard.first == 0} == {
        (view, 8) for view in ((None,) if views is None else range(3))
    }
    if count > 1:
        first, second = (recorded.recording.rows(split.ids, view, ("logits",))["logits"] for view in (0, 1))
        assert not torch.equal(first, second)


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 6))


def test_a_network_is_asked_as_a_teacher_in_eval_mode(tmp_path) -> None:
    net, split = network(), split_of(20)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    record(
        net.train(), split, tmp_path, keep=Storage(dtype="float32", layers={"0": "pooled", "3": "whole"}), batch_size=4
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    (batch,) = Loader(split, batch_size=20, seed=1)
    answer = Recorded(tmp_path).observe(batch, ("0", "3"))
    with torch.no_grad():
        net.eval()
        torch.testing.assert_close(answer.logits, net(batch.inputs), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(answer.features["0"], net[0](batch.inputs).mean((2, 3)), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(answer.features["3"], net[:4](batch.inputs), rtol=1e-5, atol=1e-6)


def test_the_network_is_put_back_into_no_mode_that_it_was_not_in(tmp_path) -> None:
    vectors = Split(torch.randn(12, 5), torch.arange(12) % 6, torch.arange(12), NAMES, "train")
    record(nn.Linear(5, 6), vectors, tmp_path, batch_size=5)
    assert Recording(tmp_path).manifest.input_shape == (5,)


# Going on.


@pytest.mark.parametrize("lost", [[(0, 0)], [(1, 4)], [(0, 1), (0, 2), (1, 0)], "all"])
def test_only_what_is_missing_is_asked_again(tmp_path, lost) -> None:
    split = split_of(37)
    options = {"views": SHIFT, "count": 2, "keep": DENSE, "batch_size": 4}
    record(Picks(), split, tmp_path, **options)
    before, asked = safetensors_in(tmp_path), {}
    shards = {view: find_shards(tmp_path, view) for view in (0, 1)}
    for view, number in [(view, number) for view in (0, 1) for number in range(5)] if lost == "all" else lost:
        shard = shards[view][number]
        asked.setdefault(view, []).extend(split.ids[shard.first : shard.last].tolist())
        shard.path.unlink()
    teacher = Picks()
    record(teacher, split, tmp_path, **options)
    assert rows_asked(teacher) == {view: sorted(ids) for view, ids in asked.items()}
    assert safetensors_in(tmp_path) == before
    again = Picks()
    record(again, split, tmp_path, **options)
    assert len(again.asked) == 1


def test_it_goes_on_with_other_sizes_of_batches_and_files(tmp_path, monkeypatch) -> None:
    split = split_of(37)
    record(Picks(), split, tmp_path, keep=DENSE, batch_size=4)
    find_shards(tmp_path, None)[1].path.unlink()
    monkeypatch.setattr(module, "SHARD_ROWS", 3)
    record(Picks(), split, tmp_path, keep=DENSE, batch_size=3)
    edges = [(shard.first, shard.last) for shard in find_shards(tmp_path, None)]
    assert edges == [(0, 8), (8, 11), (11, 14), (14, 16), (16, 24), (24, 32), (32, 37)]
    (batch,) = Loader(split, batch_size=40)
    assert torch.equal(Recorded(tmp_path).observe(batch).logits, Picks().observe(batch).logits)


def test_an_error_of_the_teacher_leaves_what_was_recorded(tmp_path) -> None:
    split = split_of(37)

    class Fails(Picks):
        def observe(self, batch, taps=()):
            if len(self.asked) > 5:
                raise ConnectionError("the service is gone")
            return super().observe(batch, taps)

    with pytest.raises(ConnectionError):
        record(Fails(), split, tmp_path, keep=DENSE, batch_size=4)
    kept = [(shard.first, shard.last) for shard in find_shards(tmp_path, None)]
    assert kept == [(0, 8), (8, 16)]
    teacher = Picks()
    record(teacher, split, tmp_path, keep=DENSE, batch_size=4)
    assert rows_asked(teacher) == {None: sorted(split.ids[16:].tolist())}


@pytest.mark.parametrize("position", [0, 2, 30])
def test_answers_that_are_not_numbers_stop_it_and_are_named(tmp_path, position) -> None:
    split = split_of(37)
    wrong = split.ids[[position, position + 1]].tolist()
    with pytest.raises(RunError, match=rf"logits hold NaN or infinity; .*\(ids {wrong[0]}, {wrong[1]}\)"):
        record(Picks(wrong=wrong), split, tmp_path, keep=DENSE, batch_size=4)
    assert len(find_shards(tmp_path, None)) == position // 8 if position > 3 else True
    record(Picks(), split, tmp_path, keep=DENSE, batch_size=4).check_whole()


def test_many_wrong_answers_are_counted(tmp_path) -> None:
    split = split_of(37)
    with pytest.raises(RunError, match=r"\(ids \d+, \d+, \d+, \d+ and 33 more\)"):
        record(Picks(wrong=split.ids.tolist()), split, tmp_path)


def test_progress_ends_at_the_whole(tmp_path) -> None:
    told: list[tuple[int, int]] = []
    plain = split_of(9, name="val", first=5000)
    record(
        Picks(), split_of(37), tmp_path, views=SHIFT, count=2, plain=plain, batch_size=4,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told == sorted(told)
    assert {total for _, total in told} == {2 * 37 + 9}
    assert told[-1][0] == 2 * 37 + 9
    assert told[0][0] == 8


# What differs.

OTHERS = {
    "teacher": ({"teacher": Picks(identity="other")}, 'weights: "picks" in the recording, "other" now'),
    "views": ({"views": Views(shift=2)}, "views.shift: 1 in the recording, 2 now"),
    "mixed": ({"views": Views(shift=1, mixup=0.5)}, "views.mixup: 0.0 in the recording, 0.5 now"),
    "seed": ({"seed": 1}, "view_seed: 0 in the recording, 1 now"),
    "dtype": ({"keep": Storage(dtype="float16")}, 'keep.dtype: "float32" in the recording, "float16" now'),
    "top": ({"keep": Storage(dtype="float32", top=2)}, 'keep.top: "off" in the recording, 2 now'),
    "layers": ({"keep": Storage(dtype="float32", layers={"row": "whole"})}, 'keep.layers.row: null in .*, "whole" now'),
    "data": ({"data": "bb"}, 'data: "aa" in the recording, "bb" now'),
    "classes": (
        {"split": replace(split_of(20), classes=tuple("fbcdea"))},
        r'classes: \["a", .* in the recording, \["f", .* now',
    ),
    "size": (
        {"split": replace(split_of(20), inputs=split_of(20).inputs[:, :, :5])},
        r"input_shape: \[1, 6, 6\] in the recording, \[1, 5, 6\] now",
    ),
    "other samples": (
        {"split": split_of(20, first=9000)},
        "20 of 20 recorded samples of split 'train' are not in the data",
    ),
    "fewer samples": ({"split": split_of(20).select(torch.arange(15))}, "5 of 20 recorded samples of split 'train'"),
    "relabelled": (
        {"split": replace(split_of(20), targets=(split_of(20).targets + 1) % 6)},
        r"20 of 20 recorded samples have another label now: sample \d+ had \d, now \d",
    ),
    "fewer views": ({"count": 2}, "holds 3 views of split 'train', asked for are 2; expected no fewer"),
    "no views": ({"views": None, "count": 1}, "views.shift: 1 in the recording, 0 now"),
    "another split": (
        {"split": replace(split_of(20), name="other")},
        "samples of split 'train', which is not recorded now",
    ),
}


@pytest.mark.parametrize("extend", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_a_recording_of_something_else_is_refused_and_left_alone(tmp_path, name, extend) -> None:
    options = {"teacher": Picks(), "split": split_of(20), "views": SHIFT, "count": 3, "keep": DENSE, "data": "aa"}
    record(**options, folder=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other, message = OTHERS[name]
    with pytest.raises(InputError, match=message) as error:
        record(**options | other, folder=tmp_path, extend=extend)
    assert "another folder" in str(error.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_is_not_known_does_not_differ(tmp_path) -> None:
    class Unknown:
        def observe(self, batch, taps=()):
            return Picks().observe(batch, taps)

    record(Picks(), split_of(20), tmp_path / "known", data="aa", keep=DENSE)
    record(Unknown(), split_of(20), tmp_path / "known", keep=DENSE)
    assert Recording(tmp_path / "known").manifest.weights == "picks"
    record(Unknown(), split_of(20), tmp_path / "unknown", keep=DENSE, name="a")
    with pytest.raises(InputError, match='teacher: "a" in the recording, "b" now'):
        record(Unknown(), split_of(20), tmp_path / "unknown", keep=DENSE, name="b")


def test_labels_that_were_not_known_may_become_known(tmp_path) -> None:
    record(Picks(), half_labelled(20), tmp_path, keep=DENSE)
    record(Picks(), split_of(20), tmp_path, keep=DENSE)


def test_the_seed_of_views_that_are_none_does_not_matter(tmp_path) -> None:
    record(Picks(), split_of(20), tmp_path, keep=DENSE, seed=0)
    record(Picks(), split_of(20), tmp_path, keep=DENSE, seed=1)


# Growing.


@pytest.mark.parametrize("views", [SHIFT, Views(mixup=1.0)], ids=["shift", "mixup"])
def test_it_grows_by_views(tmp_path, views) -> None:
    split, plain = split_of(20), split_of(9, name="val", first=5000)
    options = {"views": views, "plain": plain, "keep": DENSE, "batch_size": 4}
    record(Picks(), split, tmp_path / "grown", count=2, **options)
    with pytest.raises(
        InputError, match=r"20 samples of 'train' in 2 views, 9 samples of 'val', asked for .*in 4 views"
    ):
        record(Picks(), split, tmp_path / "grown", count=4, **options)
    teacher = Picks()
    record(teacher, split, tmp_path / "grown", count=4, extend=True, **options)
    assert rows_asked(teacher) == {view: sorted(split.ids.tolist()) for view in (2, 3)}
    record(Picks(), split, tmp_path / "whole", count=4, **options)
    assert safetensors_in(tmp_path / "grown") == safetensors_in(tmp_path / "whole")
    assert Recording(tmp_path / "grown").manifest == Recording(tmp_path / "whole").manifest


@pytest.mark.parametrize("count", [2, 3])
def test_it_grows_by_samples_and_views_at_once(tmp_path, count) -> None:
    whole, plain = split_of(37), split_of(9, name="val", first=5000)
    some = whole.select(torch.tensor([30, 2, 17, 5, 36, 0, 11, 8, 9, 10]))
    options = {"views": SHIFT, "keep": DENSE, "batch_size": 4}
    record(Picks(), some, tmp_path, count=2, **options)
    teacher = Picks()
    record(teacher, whole, tmp_path, count=count, plain=plain, extend=True, **options)
    fresh = sorted(set(whole.ids.tolist()) - set(some.ids.tolist()))
    expected = {0: fresh, 1: fresh, None: sorted(plain.ids.tolist())}
    assert rows_asked(teacher) == expected | ({2: sorted(whole.ids.tolist())} if count == 3 else {})
    recorded = Recorded(tmp_path)
    assert len(recorded.recording.samples.ids.unique()) == 37 + 9
    loader = Loader(whole, batch_size=37, seed=9, views=SHIFT, view_seed=0, cycle=count)
    for epoch in range(count):
        loader.set_epoch(epoch)
        (batch,) = loader
        assert torch.equal(recorded.observe(batch).logits, Picks().observe(batch).logits)
    again = Picks()
    record(again, whole, tmp_path, count=count, plain=plain, **options)  # it is what is asked for now
    assert len(again.asked) == 1


def test_samples_may_come_in_another_order(tmp_path) -> None:
    split = split_of(20)
    record(Picks(), split, tmp_path, keep=DENSE, batch_size=4)
    before = safetensors_in(tmp_path)
    find_shards(tmp_path, None)[1].path.unlink()
    record(Picks(), split.select(torch.arange(19, -1, -1)), tmp_path, keep=DENSE, batch_size=4)
    assert safetensors_in(tmp_path) == before


def test_who_is_mixed_with_whom_depends_on_all_samples(tmp_path) -> None:
    """So that a recording of mixes cannot grow by samples, nor be of another order or of other labels known."""
    split, options = split_of(20), {"views": Views(mixup=1.0), "keep": DENSE, "extend": True}
    record(Picks(), split, tmp_path, **options)
    for other in (split_of(21), split.select(torch.arange(19, -1, -1)), half_labelled(20)):
        with pytest.raises(InputError, match='mixing: "'):
            record(Picks(), other, tmp_path, **options)
    relabelled = replace(split, targets=(split.targets + 1) % 6)
    with pytest.raises(InputError, match="have another label"):
        record(Picks(), relabelled, tmp_path, **options)


# Bad input.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 2}, "2 views of samples that are not augmented are all the same"),
        ({"views": Views(), "count": 2}, "not augmented"),
        ({"views": SHIFT, "count": 0}, "count=0; expected at least one view"),
        ({"views": SHIFT, "count": -1}, "count=-1; expected at least one view"),
        ({"plain": split_of(5)}, "both splits are called 'train'"),
        ({"keep": Storage(top=6)}, "top: 6 of 6 classes leaves no tail; expected fewer than 6"),
        ({"split": replace(split_of(20), classes=NAMES[:5])}, "the teacher has 6 classes and the data 5"),
        ({"split": split_of(0)}, "split 'train' is empty"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"teacher": network(), "keep": Storage(layers={"9": "whole"})}, "no layer '9'"),
        ({"teacher": network(), "keep": Storage(layers={"4.weight": "whole"})}, r"'4.weight' gives \(6, 64\) for 20"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_recorded_is_refused_before_anything_is_written(tmp_path, options, message) -> None:
    with pytest.raises(InputError, match=message):
        record(**{"teacher": Picks(), "split": split_of(20)} | options, folder=tmp_path / "recording")
    assert not (tmp_path / "recording").exists()


@pytest.mark.parametrize("kept", ["whole", "pooled"])
def test_tokens_of_texts_are_not_recorded(tmp_path, kept) -> None:
    """Their number, and what a mean over them is, would be that of the batch."""
    texts = bytes_of(["a b c", "d"])
    spec = BuiltinModel(name="gru", arguments={"embedding": 4, "width": 4}, preprocess=Words(buckets=9))
    network = build_model(spec, classes=NAMES, inputs=texts)
    split = replace(split_of(2), inputs=Texts.of(["a b c", "d"]))
    with pytest.raises(InputError, match=r"the layers 'layers\.0' give each token of a text"):
        record(network, split, tmp_path, keep=Storage(layers={"layers.0": kept}))
    record(network, split, tmp_path, keep=Storage(layers={"dropout": "whole"}))


def test_ids_that_are_double_are_refused(tmp_path) -> None:
    split = split_of(20)
    double = replace(split, ids=split.ids.clone().index_fill(0, torch.tensor([3, 4]), 7))
    with pytest.raises(InputError, match=r"sample 7 is there 2 times|id 7"):
        record(Picks(), double, tmp_path)
    with pytest.raises(InputError, match=r"double|twice"):
        record(Picks(), split, tmp_path / "val", plain=replace(split, name="val"))


def test_a_teacher_of_top_classes_is_not_recorded_again(tmp_path) -> None:
    record(Picks(), split_of(20), tmp_path / "top", keep=Storage(top=2))
    with pytest.raises(InputError, match="does not tell all of its classes, so it cannot be recorded again"):
        record(Recorded(tmp_path / "top"), split_of(20), tmp_path / "again")
    dense = record(Picks(), split_of(20), tmp_path / "dense", keep=DENSE)
    copied = record(Recorded(dense), split_of(20), tmp_path / "copied", keep=Storage(top=2, dtype="int8"))
    assert copied.manifest.keep.top == 2


def test_a_place_that_cannot_be_written_is_an_error_of_the_run(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"file/recording cannot be made: Not a directory"):
        record(Picks(), split_of(20), tmp_path / "file" / "recording")


FULL = """
import resource, signal, sys
sys.path.insert(0, sys.argv[2])
from conformance.recordings import Picks, split_of
from understudy import recorder
from understudy.recordings import Storage
recorder.SHARD_ROWS = 8
split = split_of(64)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
class Fills(Picks):
    def observe(self, batch, taps=()):
        if len(self.asked) == 8:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        return super().observe(batch, taps)
try:
    recorder.record(Fills(), split, sys.argv[1], keep=Storage(dtype="float32"), batch_size=4)
except recorder.RunError as error:
    print(error)
"""


@pytest.mark.e2e
def test_a_disk_that_fills_up_costs_nothing_that_was_recorded(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "could not be written" in done.stdout, done.stderr
    assert "intact" in done.stdout
    shards = find_shards(tmp_path, None)
    assert 1 <= len(shards) <= 4
    assert list(tmp_path.rglob(".*")) == []
    teacher = Picks()
    record(teacher, split_of(64), tmp_path, keep=DENSE, batch_size=4).check_whole()
    assert len(rows_asked(teacher)[None]) == 64 - shards[-1].last
    for shard in find_shards(tmp_path, None):
        shard.verify()
