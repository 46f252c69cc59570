"""The run directory: whole files, one holder, nothing deleted."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from understudy.errors import InputError, RunError
from understudy.pipeline.directory import RunDirectory, read_json, write_json, write_text

HOLD = """
import sys, time
from pathlib import Path
from understudy.pipeline.directory import RunDirectory
with RunDirectory(Path(sys.argv[1])).held():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=f"in use by process {holder.pid} on .*--out"), RunDirectory(tmp_path).held():
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with RunDirectory(tmp_path).held():  # a killed holder does not block the directory
        assert read_json(tmp_path / ".lock.json")["pid"]


def test_the_holder_file_goes_with_the_lock(tmp_path: Path) -> None:
    with RunDirectory(tmp_path).held():
        assert (tmp_path / ".lock.json").is_file()
    assert not (tmp_path / ".lock.json").exists()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the run directory"), RunDirectory(tmp_path / "file" / "x").held():
        pass


def test_a_stage_is_done_only_for_the_same_inputs(tmp_path: Path) -> None:
    stage = RunDirectory(tmp_path).stage("teacher", 0)
    assert not stage.is_done("a")
    stage.write_record({"status": "running", "digest": "a"})
    assert not stage.is_done("a")
    stage.write_record({"status": "done", "digest": "a"})
    assert stage.is_done("a")
    assert not stage.is_done("b")


def test_setting_a_stage_aside_keeps_its_files(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    stage = run.stage("teacher", 0)
    stage.write_record({"status": "done", "digest": "a"})
    (stage.path / "model.safetensors").write_bytes(b"weights")
    aside = run.set_aside(stage)
    assert not stage.path.exists()
    assert (aside / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize("text", ['{"a": ', "[1]", ""])
def test_a_torn_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "stage.json").write_text(text)
    with pytest.raises(InputError, match=r"stage\.json"):
        read_json(tmp_path / "stage.json")


def test_json_goes_round(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "größer 9×", "values": [1, 2.5, None]})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"name": "größer 9×", "values": [1, 2.5, None]}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_disk_that_does_not_take_it_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    script = """
import resource, sys
from pathlib import Path
from understudy.errors import RunError
from understudy.pipeline.directory import write_text
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try: write_text(Path(sys.argv[1]) / "a.txt", "new" * 10_000)
except RunError as error: print(error)
"""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "could not be written" in done.stdout, (done, time.monotonic() - started)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
