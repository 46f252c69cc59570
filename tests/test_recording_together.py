"""Several processes that record one recording: each its own files, and where one fails all end."""

import threading
import time
from pathlib import Path

import pytest

from conformance.recordings import Picks, rows_asked, safetensors_in, split_of
from understudy import InputError, RunError
from understudy import recorder as module
from understudy.recorder import Team, record
from understudy.recordings import Storage
from understudy.sources.splits import Split
from understudy.views import Views

DENSE = Storage(dtype="float32")


@pytest.fixture(autouse=True)
def _small_files(monkeypatch) -> None:
    """Several files even for few samples: 8 in each."""
    monkeypatch.setattr(module, "SHARD_ROWS", 8)


class Company:
    """Threads that record together."""

    def __init__(self, world: int, *, late: dict[int, float] | None = None) -> None:
        self.world, self.late = world, late or {}
        self.teachers = [Picks() for _ in range(world)]
        self.errors: list[BaseException | None] = [None] * world
        self._barrier = threading.Barrier(world, timeout=20)
        self._said: list[str | None] = [None] * world

    def team(self, rank: int) -> Team:
        def wait() -> None:
            self._barrier.wait()
            time.sleep(self.late.get(rank, 0.0))

        def gathered(text: str | None) -> list[str | None]:
            self._said[rank] = text
            self._barrier.wait()
            said = list(self._said)
            self._barrier.wait()
            return said

        return Team(rank, self.world, wait, gathered)

    def record(self, split: Split, folder: Path, **options) -> None:
        def one(rank: int) -> None:
            try:
                record(self.teachers[rank], split, folder, team=self.team(rank), **options)
            except (InputError, RunError) as error:
                self.errors[rank] = error

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.world)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("late", [{}, {0: 0.2}, {1: 0.2}], ids=["together", "first late", "second late"])
def test_two_record_disjoint_files_of_one_recording(tmp_path, late) -> None:
    split, options = split_of(37), {"views": Views(shift=1), "count": 2, "keep": DENSE, "batch_size": 4}
    company = Company(2, late=late)
    company.record(split, tmp_path / "two", **options)
    assert company.errors == [None, None]
    asked = [rows_asked(teacher) for teacher in company.teachers]
    for view in (0, 1):
        shares = [set(each[view]) for each in asked]
        assert not shares[0] & shares[1]
        assert shares[0] | shares[1] == set(split.ids.tolist())
        assert min(map(len, shares)) >= 13
    record(Picks(), split, tmp_path / "one", **options)
    assert safetensors_in(tmp_path / "two") == safetensors_in(tmp_path / "one")


def test_more_than_there_is_to_do_is_no_problem(tmp_path) -> None:
    company = Company(3)
    company.record(split_of(9), tmp_path, keep=DENSE, batch_size=4)
    assert company.errors == [None] * 3
    assert [len(teacher.asked) for teacher in company.teachers] == [3, 2, 1]


@pytest.mark.parametrize("failing", [0, 1])
def test_where_one_fails_all_end(tmp_path, failing) -> None:
    company, split = Company(2), split_of(37)
    company.teachers[failing] = Picks(wrong=split.ids[8 * failing + 5 :].tolist())
    company.record(split, tmp_path, keep=DENSE, batch_size=4)
    assert "hold NaN or infinity" in str(company.errors[failing])
    assert f"process {failing} of those that record together could not go on" in str(company.errors[1 - failing])


def test_where_the_first_refuses_all_end(tmp_path) -> None:
    record(Picks(identity="other"), split_of(20), tmp_path, keep=DENSE)
    company = Company(2)
    company.record(split_of(20), tmp_path, keep=DENSE)
    assert "holds a recording of something else" in str(company.errors[0])
    assert "process 0 of those that record together could not go on" in str(company.errors[1])
