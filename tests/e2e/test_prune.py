"""Pruning as a stage: real images, several steps with a teacher and without, and files that are really smaller."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from understudy import InputError
from understudy.engine.progress import SilentProgress
from understudy.pipeline.run import run
from understudy.recipe.loading import parse_recipe
from understudy.report import build_report, read_run
from understudy.sources import load_artifact

pytestmark = pytest.mark.e2e

RECIPE = """
version: 1
name: pruning
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: big
    model: {source: understudy, name: cnn, arguments: {widths: [16, 16]}}
    training: &training {epochs: 3, batch_size: 64, optimizer: {kind: adam, lr: 3e-3}, select: last}
  - kind: prune
    name: small
    model: big
    target: {macs: 0.4}
    steps: 2
    importance: taylor
    samples: 100
    recovery: &recovery
      between: {epochs: 0.5, batch_size: 64, optimizer: {kind: adam, lr: 3e-3}, select: last}
      training: {epochs: 1, batch_size: 64, optimizer: {kind: adam, lr: 3e-3}, select: last}
  - {kind: prune, name: bare, model: big, target: {params: 0.5}, scope: layer, multiple: 2}
  - {kind: prune, name: holes, model: big, target: {sparsity: 0.8}, steps: 2, recovery: *recovery}
  - kind: evaluate
    name: comparison
    models: [big, small, bare, holes]
    memory: false
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pruning") / "run"
    run(parse_recipe(RECIPE), out, progress=SilentProgress())
    return out


def record(path: Path, stage: str) -> dict:
    return json.loads((path / "stages" / stage / "seed-0" / "stage.json").read_text())


def rows(path: Path) -> dict[str, dict]:
    found = json.loads((path / "stages/comparison/seed-0/evaluation.json").read_text())["rows"]
    return {row["name"]: row for row in found}


def test_the_pruned_files_are_measured_to_be_smaller(finished: Path) -> None:
    measured = rows(finished)
    big = measured["big"]
    for name in ("small", "small control"):
        assert 0.3 * big["macs"] < measured[name]["macs"] <= 0.4 * big["macs"]
        assert measured[name]["params"] < big["params"]
        assert measured[name]["bytes"] < big["bytes"]
    assert measured["bare"]["params"] <= 0.5 * big["params"]
    assert measured["small"]["metrics"]["accuracy"] > 0.5
    assert measured["bare"]["role"] == "model"
    file = finished / "stages/small/seed-0/model.safetensors"
    assert file.stat().st_size < 0.9 * (finished / "stages/big/seed-0/model.safetensors").stat().st_size


def test_costs_fall_by_the_same_factor_and_the_record_says_what_went(finished: Path) -> None:
    pruning = record(finished, "small")["pruning"]
    assert pruning["target"] == {"macs": 0.4}
    first, second = (step["cost"] for step in pruning["steps"])
    assert first["after"] == second["before"]
    assert 0.58 < first["after"]["macs"] / first["before"]["macs"] <= 0.4**0.5
    assert 0.35 < second["after"]["macs"] / first["before"]["macs"] <= 0.4
    text = record(finished, "small")["description"]
    assert f"{first['before']['macs']:,} → {second['after']['macs']:,} multiply-accumulates" in text
    layer, (wide, _) = next(iter(pruning["steps"][0]["widths"].items()))
    network = load_artifact(finished / "stages/small/seed-0").module
    assert f"{layer} {wide} → {network.get_submodule(layer).weight.shape[0]}" in text
    report = build_report([read_run(finished)])
    assert text in {stage.description for stage in report.runs[0].stages}
    assert {comparison.student: comparison.teacher for comparison in report.comparisons}["small"] == "big"


def test_zeros_stay_zeros_and_the_report_says_that_nothing_is_faster(finished: Path) -> None:
    zeros = record(finished, "holes")["pruning"]
    assert zeros["zeros"] / zeros["weights"] == pytest.approx(0.8, abs=0.01)
    for place in (".", "control"):
        state = load_file(finished / "stages/holes/seed-0" / place / "model.safetensors")
        weights = torch.cat([each.flatten() for each in state.values() if each.ndim > 1])
        assert (weights == 0).float().mean() == pytest.approx(0.8, abs=0.01)
    assert abs(zeros["bytes"]["after"] - zeros["bytes"]["before"]) < 1000
    assert zeros["gzip_bytes"]["after"] < 0.6 * zeros["gzip_bytes"]["before"]
    text = record(finished, "holes")["description"]
    assert "Nothing is smaller or faster by that" in text
    assert f"gzip would make {zeros['gzip_bytes']['after']:,} bytes" in text
    measured = rows(finished)
    assert measured["holes"]["macs"] == measured["big"]["macs"]


def test_a_run_that_goes_on_prunes_the_same(finished: Path, tmp_path: Path) -> None:
    """The steps of the finished run are taken again from its notes, whatever they would find now."""
    folder = finished / "stages/small/seed-0"
    before = load_file(folder / "model.safetensors")
    notes = json.loads((folder / "pruning.json").read_text())
    assert len(notes["steps"]) == 4
    told = record(finished, "small")
    (folder / "stage.json").write_text(json.dumps(told | {"status": "failed"}))
    run(parse_recipe(RECIPE), finished, progress=SilentProgress())
    after = load_file(folder / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert json.loads((folder / "pruning.json").read_text()) == notes
    assert record(finished, "small")["pruning"] == told["pruning"]


def test_an_impossible_target_ends_before_anything_is_trained(finished: Path) -> None:
    text = RECIPE.replace("{macs: 0.4}", "{macs: 0.0001}")
    with pytest.raises(InputError, match=r"target macs 0\.0001 cannot be met.*the closest is"):
        run(parse_recipe(text), finished, progress=SilentProgress())
    assert list((finished / "stages/small/seed-0").rglob("*.safetensors")) == []
    assert list((finished / "replaced").rglob("model.safetensors")), "what was there is kept"
