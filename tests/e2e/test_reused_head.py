"""A recipe whose student keeps its teacher's classifier: trained, left on disk, read back, evaluated."""

import json
from pathlib import Path

import pytest
import torch

from understudy.engine.progress import SilentProgress
from understudy.pipeline.check import deep_check
from understudy.pipeline.run import run
from understudy.recipe.loading import load_and_join, parse_recipe
from understudy.recipe.problems import RecipeError
from understudy.sources import load_artifact

pytestmark = pytest.mark.e2e

RECIPE = """
version: 1
name: reused
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: big
    model: {source: understudy, name: cnn, arguments: {widths: [6, 10]}}
    training: &training {epochs: 5, batch_size: 32, optimizer: {kind: adam, lr: 1e-2}, select: last}
  - kind: distill
    name: small
    teacher: big
    reuse_head: true
    model: {source: understudy, name: cnn, arguments: {widths: [4, 6]}}
    training: *training
    objective: [{kind: hint, student_layer: block2.projector, teacher_layer: block2}]
  - {kind: evaluate, name: measured, models: [big, small], latency: false, memory: false}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return run(parse_recipe(RECIPE), tmp_path_factory.mktemp("runs") / "reused", progress=SilentProgress())


def test_the_student_on_disk_has_its_teachers_classifier_and_the_control_its_own(finished: Path) -> None:
    small, big = (finished / "stages" / name / "seed-0" for name in ("small", "big"))
    student, teacher, control = (load_artifact(folder).module for folder in (small, big, small / "control"))
    assert torch.equal(student.head.weight, teacher.head.weight)
    assert not student.head.weight.requires_grad
    assert control.head.weight.shape[1] == 6
    assert json.loads((small / "model.json").read_text())["edits"][0]["layer"] == "block2"
    assert json.loads((small / "control" / "model.json").read_text())["edits"] == []


def test_a_later_stage_reads_it_from_disk_and_measures_what_was_trained(finished: Path) -> None:
    measured = json.loads((finished / "stages" / "measured" / "seed-0" / "evaluation.json").read_text())
    sizes = {row["name"]: row["params"] for row in measured["rows"]}
    student = load_artifact(finished / "stages" / "small" / "seed-0").module
    assert sum(parameter.numel() for parameter in student.parameters()) in sizes.values()
    assert len(set(sizes.values())) == 3  # the teacher, the student, and a control without the projector


def test_the_checks_build_the_student_that_will_be_trained(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(RECIPE)
    assert load_and_join(file).name == "reused"
    assert not [finding for finding in deep_check(parse_recipe(RECIPE)) if finding.severity == "error"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("teacher: big\n", "teacher: [big, big2]\n", "reuse_head.*name one stage"),
        (
            "name: cnn, arguments: {widths: [4, 6]}",
            "name: mlp, arguments: {hidden: [4, 6]}",
            "student's logits are not its last layer",
        ),
        ("    reuse_head: true\n", "", "student has no layer 'block2.projector'"),
    ],
)
def test_what_cannot_be_reused_is_found_before_any_training(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(RECIPE.replace(old, new))
    with pytest.raises(RecipeError, match=message):
        load_and_join(file)
