"""Recordings in real processes: killed at any moment, made by two at once, and learnt from as from the live teacher."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from understudy.engine import SilentProgress
from understudy.pipeline.run import run
from understudy.recipe.loading import parse_recipe
from understudy.recordings import Recording

pytestmark = pytest.mark.e2e

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
COMMAND = [sys.executable, "-m", "understudy"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "understudy"]
PROGRAM = Path(__file__).with_name("recording_program.py")

RECIPE = """
version: 1
name: recorded
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: teacher
    model: {source: understudy, name: mlp, arguments: {hidden: [32]}}
    views: {shift: 1}
    training: {epochs: 4, batch_size: 64, optimizer: {kind: adam, lr: 0.01}}
  - kind: record
    name: answers
    teacher: teacher
    views: {shift: 1}
    count: 4
    batch_size: 100
    keep: {dtype: float32}
  - kind: distill
    name: student
    teacher: answers
    model: {source: understudy, name: mlp, arguments: {hidden: [16]}}
    subset: {labels: 100}
    objective: [{kind: cross_entropy, weight: 0.1}, {kind: soft_targets, temperature: 4.0, weight: 0.9}]
    training: {epochs: 4, batch_size: 64, optimizer: {kind: adam, lr: 0.003}, checkpoint_every: 5}
"""


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def understudy(launcher: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*launcher, *arguments], capture_output=True, text=True, env=ENVIRONMENT, timeout=300, check=False
    )


def test_killed_again_and_again_it_equals_one_that_was_left_alone(tmp_path):
    seed = random.Random().randrange(10**6)
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(tmp_path), "16", str(seed)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ended"] == 0, f"seed {seed}"
    assert len(found["kills"]) >= 6, f"seed {seed}: {found}"
    assert found["kills"] == sorted(found["kills"]), f"seed {seed}: what was recorded before a kill was lost"
    assert len(set(found["kills"])) > 3, f"seed {seed}: the kills were all at one place, {found}"
    assert found["torn"] == [], f"seed {seed}: a file was visible that was not whole"
    whole, killed = files(tmp_path / "whole"), files(tmp_path / "killed")
    assert killed == whole, f"seed {seed}: {sorted(set(killed) ^ set(whole))}"
    assert not [name for name in killed if Path(name).name.startswith(".")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run in one process, not interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    (out.parent / "r.yaml").write_text(RECIPE)
    done = understudy(COMMAND, "run", str(out.parent / "r.yaml"), "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out


def recording(out: Path) -> Path:
    return out / "stages" / "answers" / "seed-0" / "recording"


def trained(out: Path, name: str = "student") -> dict[str, torch.Tensor]:
    return load_file(out / "stages" / name / "seed-0" / "model.safetensors")


def test_two_processes_record_as_one_does_and_train_from_it(whole, tmp_path):
    recipe, out = whole.parent / "r.yaml", tmp_path / "run"
    (out / "stages").mkdir(parents=True)
    teacher = whole / "stages" / "teacher"
    for path in filter(Path.is_file, teacher.rglob("*")):  # two processes train another teacher than one does
        target = out / "stages" / "teacher" / path.relative_to(teacher)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    done = understudy(TORCHRUN, "record", str(recipe), "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["recordings"][0]["samples"] == 1438
    assert files(recording(out)) == files(recording(whole))
    began = time.monotonic()
    change = ["--set", "stages.answers.keep.dtype=float16", "--extend"]
    refused = understudy(TORCHRUN, "record", str(recipe), "--out", str(out), *change)
    assert refused.returncode != 0
    assert time.monotonic() - began < 120, "the other process waited for the one that refused"
    assert 'keep.dtype: "float32" in the recording, "float16" now' in refused.stderr
    assert "process 0 of those that record together could not go on" in refused.stderr
    assert "recorder.py" not in refused.stderr, "a trace"
    assert files(recording(out)) == files(recording(whole))
    done = understudy(TORCHRUN, "run", str(recipe), "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "answers, seed 0: nothing has changed, skipped" in done.stderr
    for name, weights in trained(whole).items():
        torch.testing.assert_close(trained(out)[name], weights, atol=2e-3, rtol=0)


def control_of(out: Path) -> Path:
    return out / "stages" / "student" / "seed-0" / "control" / "model.safetensors"


def losses(out: Path, *inside: str) -> list[float]:
    lines = (out / "stages" / "student" / "seed-0").joinpath(*inside, "metrics.jsonl").read_text().splitlines()
    return [value for line in lines for value in (json.loads(line)["loss"], *json.loads(line)["terms"].values())]


def test_a_recording_teaches_what_the_live_teacher_teaches(whole, tmp_path):
    live = RECIPE.replace("teacher: answers", "teacher: teacher\n    views: {shift: 1}")
    out = run(parse_recipe(live), tmp_path, progress=SilentProgress(), only=["student"])
    assert not (out / "stages" / "answers").exists()
    assert trained(out, "teacher").keys() == trained(whole, "teacher").keys()
    assert losses(out) == pytest.approx(losses(whole), rel=1e-5)
    assert losses(out, "control") == pytest.approx(losses(whole, "control"), rel=1e-5)
    for name, weights in trained(out).items():
        torch.testing.assert_close(trained(whole)[name], weights, atol=2e-5, rtol=1e-4)
    control = load_file(control_of(out))
    for name, weights in load_file(control_of(whole)).items():
        torch.testing.assert_close(control[name], weights, atol=2e-5, rtol=1e-4)


def test_the_report_tells_that_the_answers_were_recorded(whole):
    text = (whole / "report.md").read_text()
    assert "**answers**: recorded the answers of teacher for 1,438 samples in 4 views" in text
    assert "**student**: learnt from recorded answers, those of stage answers" in text
    assert "learnt from recorded answers" in (whole / "report.html").read_text()


def test_a_student_that_is_killed_goes_on_from_the_recording(whole, tmp_path):
    recipe, out = whole.parent / "r.yaml", tmp_path / "run"
    process = subprocess.Popen(
        [*COMMAND, "run", str(recipe), "--out", str(out)], env=ENVIRONMENT, stderr=subprocess.DEVNULL
    )
    checkpoints = out / "stages" / "student" / "seed-0" / "checkpoints"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it had ended before it was killed"
    before = files(recording(out))
    done = understudy(COMMAND, "run", str(recipe), "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "answers, seed 0: nothing has changed, skipped" in done.stderr
    assert "going on from the checkpoint of step" in done.stderr
    assert files(recording(out)) == before == files(recording(whole))
    assert Recording(recording(out)).holes() == []
    for name, weights in trained(whole).items():
        assert torch.equal(trained(out)[name], weights), name


SYNTHETIC = """
import sys
from pathlib import Path
import torch
from understudy.recordings import Manifest, Part, Storage
from understudy.recordings.manifest import write_manifest
from understudy.recordings.samples import Samples, write_samples
from understudy.recordings.shards import write_shard

folder, rows, classes = Path(sys.argv[1]), int(sys.argv[2]), 100
folder.mkdir()
name = write_samples(folder, Samples(torch.arange(rows), torch.arange(rows) % classes))
names = tuple(map(str, range(classes)))
part = Part(name="train", first=0, last=rows)
manifest = Manifest(teacher="net", classes=names, keep=Storage(dtype="float32"), samples=name, parts=(part,))
write_manifest(folder, manifest)
for first in range(0, rows, 10_000):
    write_shard(folder, None, first, {"logits": torch.randn(10_000, classes)})
"""
PEAK = """
import sys
from pathlib import Path
from understudy.cli.main import main
code = main(["recording", sys.argv[1], "--verify", "--json"])
# What getrusage tells is at least the size of the process that this one was forked from.
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0], file=sys.stderr)
sys.exit(code)
"""


def test_looking_into_a_recording_takes_no_more_memory_for_more_rows(tmp_path):
    peaks = []
    for rows in (50_000, 400_000):
        folder = tmp_path / str(rows)
        subprocess.run([sys.executable, "-c", SYNTHETIC, str(folder), str(rows)], env=ENVIRONMENT, check=True)
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(folder)], capture_output=True, text=True, env=ENVIRONMENT, check=False
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["recordings"][0]["answers"] == rows
        peaks.append(int(done.stderr.split()[-1]) * 1024)
    more = 350_000 * 100 * 4
    assert peaks[1] - peaks[0] < more / 3, (
        f"{(peaks[1] - peaks[0]) / 1e6:.0f} MB more for {more / 1e6:.0f} MB of logits"
    )
