"""Files with answers: whole or refused, and read only where they are looked at."""

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from conformance.recordings import flips, resident
from understudy.errors import InputError, RunError
from understudy.recordings.shards import Shard, find_shards, view_folder, write_shard


def tensors(rows: int = 4, first: int = 0) -> dict[str, Tensor]:
    logits = torch.arange(first, first + rows)[:, None] + torch.arange(3.0) / 10
    return {"logits": logits, "kept": torch.arange(rows, dtype=torch.int16)}


def test_what_is_written_is_found_and_read(tmp_path: Path) -> None:
    written = write_shard(tmp_path, 2, 8, tensors(4, 8))
    assert write_shard(tmp_path, 2, 0, tensors(8)).path.parent == tmp_path / "view-002"
    write_shard(tmp_path, None, 0, tensors(2))
    assert [(shard.first, shard.last) for shard in find_shards(tmp_path, 2)] == [(0, 8), (8, 12)]
    assert find_shards(tmp_path, 2)[1] == written
    assert [shard.path.parent.name for shard in find_shards(tmp_path, None)] == ["plain"]
    assert find_shards(tmp_path, 3) == []
    found = find_shards(tmp_path, 2)[1].tensors
    assert set(found) == {"logits", "kept"}
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors(4, 8).items())


def test_equal_content_has_an_equal_name(tmp_path: Path) -> None:
    one, two = (write_shard(tmp_path / name, 0, 0, tensors()) for name in ("a", "b"))
    assert one.path.name == two.path.name
    assert one.path.read_bytes() == two.path.read_bytes()
    assert write_shard(tmp_path / "a", 0, 0, tensors(first=1)).path.name != one.path.name


def test_tensors_of_any_layout_are_written(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    found = write_shard(tmp_path, 0, 0, {"turned": base.T[:4], "again": base, "strided": base[:, ::2]}).tensors
    assert torch.equal(found["turned"], base.T[:4])
    assert torch.equal(found["strided"], base[:, ::2])


def test_other_files_beside_them_are_none_of_them(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, 0, 0, tensors())
    place = view_folder(tmp_path, 0)
    for name in (f".{shard.path.name}.123", "rows-1-2.safetensors", f"{shard.path.name}.part", "notes.txt"):
        (place / name).write_bytes(b"torn")
    assert find_shards(tmp_path, 0) == [shard]


@pytest.mark.parametrize(("first", "rows"), [(0, 4), (2, 4), (1, 1), (3, 9)])
def test_two_files_with_the_same_rows_are_refused(tmp_path: Path, first, rows) -> None:
    write_shard(tmp_path, 0, 0, tensors(4))
    other = write_shard(tmp_path, 0, first, tensors(rows, first=50))
    with pytest.raises(InputError, match="hold the same rows") as error:
        find_shards(tmp_path, 0)
    assert other.path.name in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_flipped_bit_in_any_byte_is_found_and_the_file_named(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, 0, 0, tensors())
    content = shard.path.read_bytes()
    for damaged in flips(content):
        shard.path.write_bytes(damaged)
        (found,) = find_shards(tmp_path, 0)
        with pytest.raises(InputError, match=r"is damaged: its SHA-256 .* Delete the file and record again") as error:
            _ = found.tensors
        assert str(shard.path) in str(error.value)
    shard.path.write_bytes(content)
    assert len(find_shards(tmp_path, 0)[0].tensors["logits"]) == 4


def test_a_file_that_was_cut_short_or_grew_is_found(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, 0, 0, tensors())
    content = shard.path.read_bytes()
    for damaged in [*(content[:length] for length in range(len(content))), content + b"\0"]:
        shard.path.write_bytes(damaged)
        with pytest.raises(InputError, match="is damaged"):
            _ = find_shards(tmp_path, 0)[0].tensors


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    shard = write_shard(tmp_path, 0, 0, tensors())
    shard.path.unlink()
    with pytest.raises(InputError, match=r"rows-.* cannot be read: No such file"):
        shard.verify()


def renamed(shard: Shard, first: int, last: int) -> Shard:
    return Shard(
        shard.path.rename(shard.path.with_name(f"rows-{first:09d}-{last:09d}-{shard.digest}.safetensors")),
        shard.view,
        first,
        last,
        shard.digest,
    )


def test_a_name_that_tells_another_number_of_rows_is_refused(tmp_path: Path) -> None:
    shard = renamed(write_shard(tmp_path, 0, 0, tensors()), 0, 5)
    with pytest.raises(InputError, match=r"holds '\w+' \(4.*\), expected 5 rows as its name says"):
        _ = shard.tensors


def test_a_file_of_another_kind_with_a_fitting_digest_is_refused(tmp_path: Path) -> None:
    content = b"something else"
    digest = hashlib.sha256(content).hexdigest()[:16]
    place = view_folder(tmp_path, None)
    place.mkdir()
    (place / f"rows-000000000-000000001-{digest}.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="is not a whole safetensors file"):
        _ = find_shards(tmp_path, None)[0].tensors


def test_a_place_that_cannot_be_written_is_an_error_of_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"cannot be made: Not a directory.* intact"):
        write_shard(tmp_path / "file", 0, 0, tensors())


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="needs Linux's account of mapped memory")
def test_only_the_rows_that_are_looked_at_are_in_memory(tmp_path: Path) -> None:
    rows, width = 4096, 2048
    shard = write_shard(tmp_path, 0, 0, {"logits": torch.arange(float(rows))[:, None].expand(rows, width)})
    size = shard.path.stat().st_size
    logits = shard.tensors["logits"]
    chosen = torch.tensor([5, 2000, 4000])
    assert torch.equal(logits.index_select(0, chosen)[:, 0], chosen.float())
    assert 0 < resident(shard.path) <= 8 * 2**20 < size / 4  # pages are up to 2 MiB large
    assert int(logits.sum(0)[0]) == rows * (rows - 1) // 2
    assert resident(shard.path) > 0.9 * size  # the account can tell
