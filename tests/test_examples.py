"""Every example runs as its reader would run it, and gives what it promises."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from understudy import InputError, Recording

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NEEDS = {"lightning_module": "lightning", "transformers_trainer": "transformers", "record_keras_teacher": "keras"}


def run(name: str, folder: Path) -> dict[str, float]:
    """The accuracies in the last line that an example prints."""
    if name in NEEDS and find_spec(NEEDS[name]) is None:
        pytest.skip(f"needs {NEEDS[name]}, a development dependency")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    found = {who: float(value) for who, value in re.findall(r"(teacher|alone|distilled) ([\d.]+)", last)}
    assert {"teacher", "distilled"} <= found.keys(), last
    return found


def test_each_is_short_and_tested_here() -> None:
    files = {file.stem: len(file.read_text().splitlines()) for file in EXAMPLES.glob("*.py")}
    assert set(files) == {"own_loop", "fit", "lightning_module", "transformers_trainer", "record_keras_teacher"}
    assert {name: length for name, length in files.items() if length > 60} == {}


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["own_loop", "fit", "lightning_module"])
def test_the_student_learns_and_is_saved_as_itself(name: str, tmp_path: Path) -> None:
    accuracy = run(name, tmp_path)
    assert accuracy["teacher"] > 0.93
    assert accuracy["distilled"] > 0.85
    assert accuracy.get("alone", 0.0) < accuracy["distilled"] - 0.05
    fresh = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    fresh.load_state_dict(torch.load(tmp_path / "student.pt", weights_only=True))


@pytest.mark.e2e
def test_the_transformers_student_is_an_ordinary_checkpoint(tmp_path: Path) -> None:
    accuracy = run("transformers_trainer", tmp_path)
    assert accuracy["teacher"] > 0.9
    assert accuracy["distilled"] > 0.8
    saved = {file.name for file in (tmp_path / "student").iterdir()}
    assert saved == {"config.json", "model.safetensors"}
    code = (
        "from transformers import ViTForImageClassification as Model;"
        "_, info = Model.from_pretrained('student', output_loading_info=True);"
        "print(sorted(map(len, info.values())), any('understudy' in name for name in __import__('sys').modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert loaded.stdout.split("]")[1].strip() == "False"
    assert set(loaded.stdout.split("]")[0].strip("[").split(", ")) == {"0"}, loaded.stdout


@pytest.mark.e2e
def test_a_keras_teacher_is_recorded_without_understudy_and_teaches(tmp_path: Path) -> None:
    accuracy = run("record_keras_teacher", tmp_path)
    assert accuracy["teacher"] > 0.93
    assert accuracy["alone"] + 0.05 < accuracy["distilled"] > 0.8
    recording = Recording(tmp_path / "answers")
    recording.check_whole()
    assert (recording.manifest.count, recording.views, recording.manifest.teacher) == (1437, (None,), "keras")
    rows = recording.rows(torch.tensor([1436, 3]), None, ["logits"])["logits"]
    with safe_open(next((tmp_path / "answers" / "plain").iterdir()), framework="pt") as file:
        assert torch.equal(rows, file.get_tensor("logits")[[1436, 3]])
    script = (EXAMPLES / "record_keras_teacher.py").read_text()
    assert "import understudy" not in script
    shard = next((tmp_path / "answers" / "plain").iterdir())
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match="is damaged"):
        Recording(tmp_path / "answers").rows(torch.tensor([3]), None, ["logits"])
