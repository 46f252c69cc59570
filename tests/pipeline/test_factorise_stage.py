"""The stage that factorises: its keys, and a run on real images from training to the measured, factorised model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from understudy.engine.progress import SilentProgress
from understudy.pipeline.run import run
from understudy.pipeline.stages import Factorise
from understudy.recipe.loading import parse_recipe
from understudy.recipe.problems import RecipeError
from understudy.sources import load_artifact

RECIPE = """
version: 1
name: low-rank
task: image_classification
seeds: [0, 1]
data: {source: sklearn/digits}
stages:
  - kind: train
    name: big
    seed: 7
    model: {source: understudy, name: mlp, arguments: {hidden: [64, 64]}}
    training: {epochs: 12, batch_size: 64, optimizer: {kind: adam, lr: 3e-3}, select: last}
  - kind: factorise
    name: thin
    model: big
    target: {macs: 0.3}
    keep: [head]
    recovery:
      subset: {labels: 60}
      training: {epochs: 4, batch_size: 64, optimizer: {kind: adam, lr: 3e-3}, select: last}
  - {kind: factorise, name: untrained, seed: 0, model: big, energy: 0.8}
  - {kind: evaluate, name: measured, models: [big, thin, untrained], latency: false, memory: false}
"""


def of(text: str) -> Factorise:
    stage = parse_recipe(RECIPE.replace("target: {macs: 0.3}", text)).stages[1]
    assert isinstance(stage, Factorise)
    return stage


def test_what_it_needs() -> None:
    stage = of("energy: 0.5")
    assert (stage.needs, stage.asks, stage.network, stage.target) == (("big",), (), "big", None)
    taught = Factorise.model_validate(
        {
            "name": "thin",
            "model": "big@2",
            "target": {"params": 0.5},
            "recovery": {"teacher": "other", "training": {"epochs": 1, "optimizer": {"lr": 0.1}}},
        }
    )
    assert (taught.needs, taught.reads, taught.asks) == (("big", "other"), ("big@2", "other"), ("other",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("energy: 1.5", "energy"),
        ("target: {flops: 0.5}", "target"),
        ("target: {}", "target"),
        ("keep: [head]", "exactly one of energy"),
        ("energy: 0.5\n    target: {macs: 0.3}", "exactly one of energy"),
    ],
)
def test_bad_keys_are_refused_where_they_are(text, message) -> None:
    recipe = RECIPE.replace("    keep: [head]\n", "").replace("target: {macs: 0.3}", text)
    with pytest.raises((RecipeError, ValidationError), match=message):
        parse_recipe(recipe)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return run(parse_recipe(RECIPE), tmp_path_factory.mktemp("runs") / "low-rank", progress=SilentProgress())


def record_of(finished: Path, stage: str, seed: int = 0) -> dict:
    return json.loads((finished / "stages" / stage / f"seed-{seed}" / "stage.json").read_text())


@pytest.mark.e2e
def test_costs_fall_and_the_record_says_by_how_much(finished: Path) -> None:
    record = record_of(finished, "thin")
    before, after = record["cost"]["before"], record["cost"]["after"]
    assert before["macs"] == 64 * 64 * 2 + 640
    assert after["macs"] <= 0.3 * before["macs"]
    assert after["bytes"] < before["bytes"]
    assert set(record["layers"]) == {"hidden1", "hidden2"}
    assert record["left_alone"] == {"head": "kept, as asked"}
    assert all(layer["macs"][1] < layer["macs"][0] for layer in record["layers"].values())
    assert {"before", "after", "batch", "threads", "runtime"} == set(record["latency_ms"])
    assert record_of(finished, "thin", 1)["latency_ms"] is None
    measured = json.loads((finished / "stages/measured/seed-0/evaluation.json").read_text())
    rows = {row["name"]: row for row in measured["rows"]}
    assert rows["thin"]["macs"] == rows["thin control"]["macs"] == after["macs"]
    assert rows["thin"]["params"] == after["params"]


@pytest.mark.e2e
def test_the_recovered_model_is_better_than_the_untrained_one_and_has_a_control(finished: Path) -> None:
    measured = json.loads((finished / "stages/measured/seed-0/evaluation.json").read_text())
    accuracy = {row["name"]: row["metrics"]["accuracy"] for row in measured["rows"]}
    assert accuracy["thin"] > 0.9
    assert accuracy["thin"] > accuracy["thin control"]
    record = record_of(finished, "untrained")
    assert record["data"] == "not trained afterwards"
    assert record["energy"] == 0.8


@pytest.mark.e2e
def test_another_process_loads_what_was_left(finished: Path, tmp_path: Path) -> None:
    folder = finished / "stages" / "thin" / "seed-0"
    loaded = load_artifact(folder)
    assert len(loaded.module.hidden1) == 2
    code = (
        "import sys; from understudy.sources import load_artifact; loaded = load_artifact(sys.argv[1]); "
        "loaded.module.eval()(loaded.example(2)).detach().numpy().tofile(sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, str(folder), str(tmp_path / "logits")], check=True)
    logits = torch.frombuffer(bytearray((tmp_path / "logits").read_bytes()), dtype=torch.float32).reshape(2, 10)
    torch.testing.assert_close(logits, loaded.module.eval()(loaded.example(2)), rtol=0, atol=1e-6)
