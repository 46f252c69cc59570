"""Two processes train like one with the same global batch, and end together."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

PROGRAM = Path(__file__).with_name("training_program.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def start(launcher: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*launcher, str(PROGRAM), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"},
    )


@pytest.mark.parametrize(("data", "way"), [("loader", []), ("ordered", []), ("loader", ["--head-chunk", "3"])])
def test_two_processes_equal_one(tmp_path, data, way):
    single = start([sys.executable], str(tmp_path / "one"), data, "--plain")
    double = start(TORCHRUN, str(tmp_path / "two"), data, "--plain", *way)
    assert single.returncode == 0, single.stderr
    assert double.returncode == 0, double.stderr
    one, two = json.loads(single.stdout), json.loads(double.stdout)  # two objects would not be one JSON value
    for first, second in zip(one["history"], two["history"], strict=True):
        assert second["step"] == first["step"]
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-3)
        assert second["terms"] == pytest.approx(first["terms"], rel=1e-3)
        assert second["val"]["accuracy"] == pytest.approx(first["val"]["accuracy"], abs=0.02)
    for name, weights in one["weights"].items():
        assert two["weights"][name] == pytest.approx(weights, abs=2e-3), name
    written = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in written] == two["history"]


def test_a_killed_rank_ends_the_run_and_it_can_go_on(tmp_path):
    begun = time.monotonic()
    killed = start(TORCHRUN, str(tmp_path), "loader", "--kill-at", "14", "--rank", "1")
    assert killed.returncode != 0
    assert time.monotonic() - begun < 120
    done = start(TORCHRUN, str(tmp_path), "loader")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["resumed_from"] == 12
