"""Reading a recording: the right rows, from memory or mapped, and what is wrong with one is named."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from conformance.recordings import flips, resident, written
from understudy.batch import IGNORE_INDEX
from understudy.errors import InputError
from understudy.recordings import Recording, Storage, recording
from understudy.recordings.manifest import write_manifest
from understudy.recordings.samples import Samples, read_samples, write_samples
from understudy.recordings.shards import find_shards, write_shard

IDS = torch.tensor([40, 7, 93, 12, 55, 3, 68, 21, 30, 99])
KEEP = Storage(dtype="float32", layers={"a": "whole"})


def tensors(first: int, last: int, *, view: int = 0) -> dict[str, Tensor]:
    """Each number tells its view, row and column."""
    rows = 100 * view + torch.arange(first, last)[:, None]
    return {"logits": rows + torch.arange(6.0) / 10, "a": (-rows[..., None]).expand(-1, 2, 3).float()}


def folder(tmp_path: Path, *cuts: int, views: int = 2) -> Path:
    edges = list(zip((0, *cuts), (*cuts, len(IDS)), strict=True))
    shards = [(view, first, tensors(first, last, view=view)) for view in range(views) for first, last in edges]
    return written(tmp_path / "recording", IDS, shards, keep=KEEP, views=views)


@pytest.fixture(params=["joined", "mapped"])
def _read(request, monkeypatch) -> None:
    """Small views are read whole; with no bytes allowed for that, none is."""
    if request.param == "mapped":
        monkeypatch.setattr(recording, "_IN_MEMORY", 0)


@pytest.mark.usefixtures("_read")
@pytest.mark.parametrize("cuts", [(), (4,), (1, 2, 9)])
def test_rows_are_those_of_the_ids(tmp_path, cuts) -> None:
    found = Recording(folder(tmp_path, *cuts))
    for chosen in ([0], [9, 0], [3, 3, 3], [2, 8, 1, 8, 5, 0], list(range(10)), []):
        for view in (0, 1):
            rows = found.rows(IDS[chosen], view, ("logits", "a", "unheard of"))
            whole = tensors(0, 10, view=view)
            assert set(rows) == {"logits", "a"}
            assert all(torch.equal(rows[name], whole[name][chosen]) for name in rows)
            assert set(found.rows(IDS[chosen], view, ("a",))) == {"a"}
    assert found.views == (0, 1)
    assert len(found.shards()) == 2 * (len(cuts) + 1)
    found.check_whole()


def test_small_views_are_held_and_large_ones_are_not(tmp_path, monkeypatch) -> None:
    """What the fixture stands on: from memory a file is read once, mapped one sees what becomes of it."""
    path = folder(tmp_path, 4)
    for limit, changes in ((2**20, False), (0, True)):
        monkeypatch.setattr(recording, "_IN_MEMORY", limit)
        found, shard = Recording(path), find_shards(path, 0)[0].path
        before = found.rows(IDS[:1], 0, ("logits",))["logits"]
        content = shard.read_bytes()
        header = 8 + int.from_bytes(content[:8], "little")
        with shard.open("r+b") as file:
            file.seek(header)
            file.write(bytes(len(content) - header))
        after = found.rows(IDS[:1], 0, ("logits",))["logits"]
        shard.write_bytes(content)
        assert torch.equal(before, after) != changes


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="needs Linux's account of mapped memory")
def test_of_a_large_recording_only_the_rows_of_a_batch_are_in_memory(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(recording, "_IN_MEMORY", 2**20)
    rows, width = 2048, 2048
    logits = torch.arange(float(rows))[:, None].expand(rows, width)
    shards = [(None, first, {"logits": logits}) for first in (0, rows)]
    path = written(tmp_path / "large", torch.arange(2 * rows) * 3, shards, classes=[str(k) for k in range(width)])
    found = Recording(path)
    sizes = {shard.path: shard.path.stat().st_size for shard in found.shards()}
    chosen = torch.tensor([2, 2 * rows - 1, 2, rows + 5])
    answer = found.rows(chosen * 3, None, ("logits",))["logits"]
    assert torch.equal(answer[:, 0], (chosen % rows).float())
    for file, size in sizes.items():
        assert resident(file) <= 6 * 2**20 < size / 2  # pages are up to 2 MiB large


@pytest.mark.usefixtures("_read")
def test_samples_that_were_not_recorded_are_named(tmp_path) -> None:
    found = Recording(folder(tmp_path, 4))
    with pytest.raises(InputError, match=r"2 of 4 samples of the batch are not in the recording \(ids 41, 1000\)"):
        found.rows(torch.tensor([40, 41, 1000, 7]), 0, ("logits",))
    with pytest.raises(InputError, match=r"1 of 1 samples .* \(ids -5\)"):
        found.rows(torch.tensor([-5]), 0, ("logits",))


@pytest.mark.usefixtures("_read")
def test_views_that_were_not_recorded_are_named(tmp_path) -> None:
    found = Recording(folder(tmp_path))
    with pytest.raises(InputError, match=r"no samples in view 2; its views are: 0, 1\. .* --extend"):
        found.rows(IDS, 2, ("logits",))
    with pytest.raises(InputError, match="no samples as they are; its views are: 0, 1"):
        found.rows(IDS, None, ("logits",))


@pytest.mark.usefixtures("_read")
@pytest.mark.parametrize("lost", [0, 1, 2, 3])
def test_a_hole_is_named_and_all_around_it_can_be_read(tmp_path, lost) -> None:
    path, edges = folder(tmp_path, 2, 3, 7), [(0, 2), (2, 3), (3, 7), (7, 10)]
    find_shards(path, 1)[lost].path.unlink()
    found, (first, last) = Recording(path), edges[lost]
    assert [(hole.view, hole.first, hole.last) for hole in found.holes()] == [(1, first, last)]
    with pytest.raises(InputError, match=rf"not whole: rows {first} to {last} of view 1 \(train\) are missing"):
        found.check_whole()
    there = [row for row in range(10) if not first <= row < last]
    assert torch.equal(found.rows(IDS[there], 1, ("logits",))["logits"], tensors(0, 10, view=1)["logits"][there])
    with pytest.raises(InputError, match=r"1 of 2 samples of the batch were not recorded in this view of .*view-001"):
        found.rows(IDS[[there[0], first]], 1, ("logits",))


def test_several_holes_are_counted(tmp_path) -> None:
    path = folder(tmp_path, 2, 3, 7)
    for view, number in ((0, 0), (0, 0), (1, 3)):
        find_shards(path, view)[number].path.unlink()
    found = Recording(path)
    assert [(hole.view, hole.first, hole.last) for hole in found.holes()] == [(0, 0, 3), (1, 7, 10)]
    with pytest.raises(InputError, match=r"rows 0 to 3 of view 0 \(train\) and 1 more are missing"):
        found.check_whole()
    assert [(hole.view, hole.first, hole.last) for hole in Recording(written(tmp_path / "none", IDS, [])).holes()] == [
        (None, 0, 10)
    ]


@pytest.mark.usefixtures("_read")
def test_files_that_do_not_hold_what_the_manifest_says_are_refused(tmp_path) -> None:
    less = written(tmp_path / "less", IDS, [(0, 0, {"logits": tensors(0, 10)["logits"]})], keep=KEEP, views=1)
    with pytest.raises(
        InputError, match=r"rows-0.* has no tensor 'a', which the manifest says is kept; it has 'logits'"
    ):
        Recording(less).rows(IDS, 0, ("logits",))
    for name, other in {
        "type": {"a": tensors(4, 10)["a"].half()},
        "shape": {"a": tensors(4, 10)["a"][:, :1]},
        "more": {"inputs": torch.zeros(6, dtype=torch.int32)},
    }.items():
        shards = [(0, 0, tensors(0, 4)), (0, 4, tensors(4, 10) | other)]
        found = Recording(written(tmp_path / name, IDS, shards, keep=KEEP, views=1))
        with pytest.raises(InputError, match=rf"rows-000000004.* differs .* holds '{next(iter(other))}' as"):
            found.rows(IDS, 0, ("logits", "a"))


@pytest.mark.usefixtures("_read")
@pytest.mark.parametrize(
    ("keep", "tensors", "message"),
    [
        (
            Storage(dtype="float32"),
            {"logits": torch.zeros(10, 5)},
            r"'logits' as torch.float32 \('rows', 5\), expected 6",
        ),
        (
            Storage(dtype="float32", top=3),
            {"logits": torch.zeros(10, 3), "kept": torch.zeros(10, 2).short(), "tails": torch.zeros(10, 1)},
            r"'kept' as torch.int16 \('rows', 2\), expected 3",
        ),
        (
            Storage(dtype="float32", top=3, temperatures=(4.0,)),
            {"logits": torch.zeros(10, 3), "kept": torch.zeros(10, 3).short(), "tails": torch.zeros(10, 1)},
            r"'tails' as torch.float32 \('rows', 1\), expected 2",
        ),
    ],
    ids=["classes", "top", "temperatures"],
)
def test_rows_of_another_length_than_the_manifest_says_are_refused(tmp_path, keep, tensors, message) -> None:
    found = Recording(written(tmp_path, IDS, [(None, 0, tensors)], keep=keep))
    with pytest.raises(InputError, match=rf"rows-0.* holds {message} numbers in a row"):
        found.rows(IDS, None, ("logits",))


@pytest.mark.usefixtures("_read")
@pytest.mark.parametrize("wrong", [6, -1])
def test_a_class_that_the_manifest_does_not_name_is_refused(tmp_path, wrong) -> None:
    for last in (5, wrong):
        kept = torch.tensor([0, 3, last]).short().repeat(10, 1)
        rows = {"logits": torch.zeros(10, 3), "kept": kept, "tails": torch.zeros(10, 1)}
        keep = Storage(dtype="float32", top=3)
        found = Recording(written(tmp_path / str(last), IDS, [(None, 0, rows)], keep=keep))
        if last == 5:
            assert found.rows(IDS, None, ("kept",))["kept"].tolist() == kept.tolist()
            continue
        with pytest.raises(InputError, match=rf"rows-0.* class {wrong}; the manifest names 6, so expected 0 to 5"):
            found.rows(IDS, None, ("kept",))


@pytest.mark.usefixtures("_read")
def test_a_damaged_file_is_found_when_it_is_first_used(tmp_path) -> None:
    path = folder(tmp_path, 4)
    shard = find_shards(path, 1)[1].path
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x55")
    found = Recording(path)
    found.check_whole()
    found.rows(IDS, 0, ("logits",))
    with pytest.raises(InputError, match=r"view-001.rows-000000004-000000010-\w+\.safetensors is damaged"):
        found.rows(IDS[-1:], 1, ("logits",))


def test_every_flipped_bit_of_the_samples_is_found(tmp_path) -> None:
    name = write_samples(tmp_path, Samples(IDS, IDS % 6))
    path = tmp_path / name
    read = read_samples(path, 10)
    assert torch.equal(read.ids, IDS)
    assert torch.equal(read.targets, IDS % 6)
    for damaged in flips(path.read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"is damaged|cannot be read") as error:
            read_samples(path, 10)
        assert str(path) in str(error.value)
    path.unlink()
    with pytest.raises(InputError, match=r"samples-.* cannot be read \(.*No such file"):
        read_samples(path, 10)


def test_ids_that_are_there_twice_or_not_all_are_refused(tmp_path) -> None:
    twice = torch.tensor([4, 9, 4, 2, 9, 4])
    name = write_samples(tmp_path, Samples(twice, -twice))
    with pytest.raises(InputError, match=r"sample 4 is there 3 times \(2 ids are double\); expected each id once"):
        read_samples(tmp_path / name, 6)
    name = write_samples(tmp_path, Samples(IDS, -IDS))
    with pytest.raises(InputError, match=r"holds ids \(10,\) torch.int64 .* expected int64, \(11,\)"):
        read_samples(tmp_path / name, 11)
    name = write_samples(tmp_path, Samples(IDS.int(), IDS))
    with pytest.raises(InputError, match=r"holds ids \(10,\) torch.int32"):
        read_samples(tmp_path / name, 10)


def test_samples_without_labels_have_none(tmp_path) -> None:
    content = save({"ids": IDS})
    path = tmp_path / f"samples-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    path.write_bytes(content)
    assert read_samples(path, 10).targets.unique().tolist() == [IGNORE_INDEX]
    other = save({"samples": IDS})
    path = tmp_path / f"samples-{hashlib.sha256(other).hexdigest()[:16]}.safetensors"
    path.write_bytes(other)
    with pytest.raises(InputError, match=r"cannot be read \('ids'\)"):
        read_samples(path, 10)


def test_a_folder_without_a_recording_is_told(tmp_path) -> None:
    with pytest.raises(InputError, match=r"there is no recording in .*nothing: expected a file manifest\.json there"):
        Recording(tmp_path / "nothing")


def test_ids_in_order_are_found_without_sorting(tmp_path) -> None:
    for ids in (torch.arange(5, 50, 5), torch.arange(50, 5, -5)):
        samples = Samples(ids, ids)
        assert samples.positions(ids.flip(0)).tolist() == list(range(len(ids)))[::-1]
        with pytest.raises(InputError, match=r"ids 0, 51, 6"):
            samples.positions(torch.tensor([0, 10, 51, 6]))


def test_several_parts_lie_behind_each_other(tmp_path) -> None:
    path = folder(tmp_path, 4)
    manifest = Recording(path).manifest
    plain = manifest.parts[0].model_copy(update={"name": "validation", "first": 10, "last": 12, "views": 0})
    more = torch.cat([IDS, torch.tensor([500, 400])])
    name = write_samples(path, Samples(more, more % 6))
    write_manifest(path, manifest.model_copy(update={"parts": (*manifest.parts, plain), "samples": name}))
    assert [(hole.view, hole.first, hole.last) for hole in Recording(path).holes()] == [(None, 10, 12)]
    write_shard(path, None, 10, tensors(10, 12))
    found = Recording(path)
    found.check_whole()
    assert found.views == (0, 1, None)
    rows = found.rows(torch.tensor([400, 500]), None, ("logits",))["logits"]
    assert torch.equal(rows, tensors(0, 12)["logits"][[11, 10]])
    with pytest.raises(InputError, match=r"1 of 1 samples of the batch were not recorded in this view"):
        found.rows(torch.tensor([400]), 1, ("logits",))
