"""Schemes of distillation as stages: a route, an assistant, several teachers, a mean teacher, and none at all."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from understudy.engine.progress import SilentProgress
from understudy.pipeline.run import run
from understudy.recipe.loading import parse_recipe
from understudy.report import build_report, read_run, write_report

pytestmark = pytest.mark.e2e

RECIPE = """
version: 1
name: schemes
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: big
    model: {source: understudy, name: mlp, arguments: {hidden: [32]}}
    snapshots: 2
    training: &training {epochs: 1, batch_size: 64, optimizer: {kind: adam, lr: 3e-3}, select: last}
  - kind: train
    name: early
    start: big@1
    model: {source: understudy, name: mlp, arguments: {hidden: [32]}}
    training: &still {epochs: 0.1, optimizer: {lr: 0.0}, select: last}
  - kind: distill
    name: first
    teacher: big@1
    model: &model {source: understudy, name: mlp, arguments: {hidden: [16]}}
    subset: {labels: 200}
    training: *training
    objective: &soft [{kind: cross_entropy, weight: 0.2}, {kind: soft_targets, temperature: 2.0, weight: 0.8}]
  - kind: distill
    name: second
    start: first
    teacher: big
    model: *model
    training: *still
    objective: *soft
  - kind: distill
    name: together
    teacher: {second: 2, big: 1}
    combine: confident
    model: *model
    training: *training
    objective:
      - {kind: soft_targets}
      - {kind: hint, teacher: big, student_layer: hidden1, teacher_layer: hidden1}
  - kind: distill
    name: past
    teacher: {kind: average, decay: 0.9}
    model: *model
    training: *training
    objective: *soft
  - kind: distill
    name: alone
    model: *model
    training: *training
    objective: [{kind: cross_entropy}, {kind: teacher_free}]
  - kind: evaluate
    name: comparison
    models: [big, second, together, past, alone]
    memory: false
    latency: false
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("schemes") / "run"
    run(parse_recipe(RECIPE), out, progress=SilentProgress())
    return out


def weights(run: Path, stage: str, name: str = "model") -> dict[str, torch.Tensor]:
    return load_file(run / "stages" / stage / "seed-0" / f"{name}.safetensors")


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def record(run: Path, stage: str) -> dict:
    return json.loads((run / "stages" / stage / "seed-0" / "stage.json").read_text())


def test_snapshots_are_left_and_can_be_begun_with(finished: Path) -> None:
    assert record(finished, "big")["snapshots"] == [10, 21]
    assert equal(weights(finished, "big", "snapshot-2"), weights(finished, "big"))
    assert not equal(weights(finished, "big", "snapshot-1"), weights(finished, "big"))
    assert equal(weights(finished, "early"), weights(finished, "big", "snapshot-1"))


def test_student_and_control_begin_with_the_same_weights(finished: Path) -> None:
    first = weights(finished, "first")
    assert equal(weights(finished, "second"), first)
    assert equal(load_file(finished / "stages/second/seed-0/control/model.safetensors"), first)


def test_the_records_name_the_teachers_and_what_the_control_lacks(finished: Path) -> None:
    named = {stage: record(finished, stage)["teacher"] for stage in ("first", "together", "past", "alone")}
    assert named == {"first": ["big@1"], "together": ["second", "big"], "past": [], "alone": []}
    lacks = {stage: record(finished, stage)["control_lacks"] for stage in ("first", "past", "alone")}
    assert lacks == {"first": None, "past": "its own average", "alone": "its own knowledge"}
    assert [finding["severity"] for finding in record(finished, "past")["findings"]][:1] == ["note"]


def test_the_control_of_a_student_that_teaches_itself_learns_from_labels_alone(finished: Path) -> None:
    (line,) = (finished / "stages/alone/seed-0/control/metrics.jsonl").read_text().splitlines()
    assert list(json.loads(line)["terms"]) == ["cross_entropy"]


def test_the_report_knows_all_teachers_and_claims_none_that_there_was_not(finished: Path) -> None:
    report = build_report([read_run(finished)])
    taught = {comparison.student: comparison.teacher for comparison in report.comparisons}
    assert taught == {"second": "big", "together": "second", "past": None, "alone": None}
    texts = " ".join(note.text for note in report.notes) + " ".join(one.headline for one in report.comparisons)
    assert "was not evaluated" not in texts
    assert "its own average" in texts
    assert "learnt from second, big" in write_report(finished).html.read_text()
