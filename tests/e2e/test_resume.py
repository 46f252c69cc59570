"""A training that is killed goes on, and ends with the same weights, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

PROGRAM = Path(__file__).with_name("training_program.py")
STEPS = {"loader": 42, "shuffled": 42, "generator": 42, "workers": 42}


def start(directory: Path, data: str, *settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), str(directory), data, *settings],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def result(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def without_clock(history: list[dict]) -> list[dict]:
    return [
        {key: value for key, value in record.items() if key not in ("seconds", "samples_per_s", "loss", "terms")}
        for record in history
    ]


def losses(history: list[dict]) -> list[float]:
    return [value for record in history for value in (record["loss"], *record["terms"].values())]


@pytest.mark.parametrize("data", ["loader", "shuffled", "generator", "workers"])
def test_killed_at_a_random_step_it_ends_with_the_same_weights(tmp_path, data):
    step = random.Random().randint(5, 41)
    killed = start(tmp_path / "killed", data, "--kill-at", str(step))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    last = max(int(path.stem[5:]) for path in (tmp_path / "killed" / "checkpoints").glob("*.json"))
    resumed = start(tmp_path / "killed", data)
    again, whole = result(resumed), result(start(tmp_path / "whole", data))
    assert whole["resumed_from"] is None
    assert again["resumed_from"] == last <= step, f"killed at step {step}"
    assert again["hashes"] == whole["hashes"], f"killed at step {step}"
    assert without_clock(again["history"]) == without_clock(whole["history"])
    assert losses(again["history"]) == pytest.approx(losses(whole["history"]), rel=1e-5)
    lines = (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == again["history"]
    assert not (tmp_path / "killed" / "checkpoints").exists()
    assert f"going on from the checkpoint of step {last}" in resumed.stderr


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_asked_to_end_it_writes_down_the_step_that_it_is_in(tmp_path, name):
    ended = start(tmp_path / "ended", "loader", "--kill-at", "17", "--signal", name)
    assert ended.returncode == (1 if name == "SIGINT" else -signal.SIGTERM), ended.stderr
    assert ("KeyboardInterrupt" in ended.stderr) == (name == "SIGINT")
    again, whole = result(start(tmp_path / "ended", "loader")), result(start(tmp_path / "whole", "loader"))
    assert again["resumed_from"] == 17
    assert again["hashes"] == whole["hashes"]


def test_asked_to_end_in_its_last_step_it_ends_when_all_is_done(tmp_path):
    ended = start(tmp_path, "loader", "--kill-at", "42", "--signal", "SIGTERM")
    assert ended.returncode == -signal.SIGTERM
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == len(
        result(start(tmp_path, "loader"))["history"]
    )
    assert not (tmp_path / "checkpoints").exists()


def test_a_torn_checkpoint_is_noticed_and_the_one_before_is_used(tmp_path):
    killed = start(tmp_path / "killed", "loader", "--kill-at", "30")
    assert killed.returncode == -signal.SIGKILL
    newest = max((tmp_path / "killed" / "checkpoints").glob("*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-100])
    (tmp_path / "killed" / "checkpoints" / "step-00000029.safetensors.tmp").write_bytes(b"torn")
    done = start(tmp_path / "killed", "loader")
    again, whole = result(done), result(start(tmp_path / "whole", "loader"))
    assert f"{newest.name} is damaged" in done.stderr
    assert again["resumed_from"] == 24
    assert again["hashes"] == whole["hashes"]


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    assert start(tmp_path, "loader", "--kill-at", "9").returncode == -signal.SIGKILL
    done = start(tmp_path, "loader", "--plain")
    assert done.returncode == 1
    assert "holds a checkpoint of another training: training.accumulate was 2, is 1 now" in done.stderr
