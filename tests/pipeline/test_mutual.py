"""Students that teach each other in a recipe: who learns what from whom, and what is left on disk."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from understudy.engine.progress import SilentProgress
from understudy.methods import CrossEntropy, SoftTargets
from understudy.pipeline.run import run
from understudy.pipeline.stages import Mutual
from understudy.pipeline.stages.mutual import mutual_objective
from understudy.recipe.loading import load_recipe
from understudy.sources.artifact import load_artifact

RECIPE = """
version: 1
name: mutual
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: mutual
    name: pair
    models:
      small: {source: understudy, name: mlp, arguments: {hidden: [16]}}
      twin: {source: understudy, name: mlp, arguments: {hidden: [16]}}
      wide: {source: understudy, name: mlp, arguments: {hidden: [64]}}
    subset: {samples: 100}
    objective: [{kind: cross_entropy}, {kind: soft_targets, temperature: 1.0, weight: 0.5}]
    training: {steps: 30, batch_size: 32, optimizer: {kind: adam, lr: 3e-3}, execution: plain}
  - kind: evaluate
    name: comparison
    models: [pair]
    latency: false
    memory: false
"""
MODEL = {"source": "understudy", "name": "mlp", "arguments": {"hidden": [4]}}
TRAINING = {"epochs": 1, "optimizer": {"lr": 0.1}}


def test_every_student_gets_every_term_and_the_others_share_the_weight() -> None:
    terms = mutual_objective((0.3 * CrossEntropy(), 0.8 * SoftTargets(temperature=2.0)), ("a", "b", "c")).terms
    assert [(term.label, term.student, term.teacher, term.weight) for term in terms[:3]] == [
        ("cross_entropy_a", "a", None, 0.3),
        ("soft_targets_a_from_b", "a", "b", 0.4),
        ("soft_targets_a_from_c", "a", "c", 0.4),
    ]
    assert len(terms) == 9
    assert {(term.student, term.teacher) for term in terms if term.teacher} == {
        (student, peer) for student in "abc" for peer in "abc" if student != peer
    }
    assert all(term.temperature == 2.0 for term in terms if isinstance(term, SoftTargets))


def test_a_run_leaves_every_student_and_measures_it(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    run(load_recipe(tmp_path / "recipe.yaml"), tmp_path / "run", progress=SilentProgress())
    stage = tmp_path / "run/stages/pair/seed-0"
    record = json.loads((stage / "stage.json").read_text())
    assert record["models"] == {"student": ".", "control": "control", "twin": "peers/twin", "wide": "peers/wide"}
    weights = [load_artifact(stage / place).module.state_dict() for place in (".", "control", "peers/twin")]
    for other in weights[1:]:
        assert not all(torch.equal(value, other[name]) for name, value in weights[0].items())
    found = json.loads((tmp_path / "run/stages/comparison/seed-0/evaluation.json").read_text())
    (control,) = (row for row in found["rows"] if row["role"] == "control")
    assert (control["control_of"], control["lacks"]) == ("pair", "the mutual teaching")
    rows = {row["name"]: (row["role"], row["params"]) for row in found["rows"]}
    assert rows["pair"] == ("student", rows["pair control"][1])
    assert rows["pair control"][0] == "control"
    assert rows["pair wide"][0] == "model"
    assert rows["pair wide"][1] > rows["pair"][1]
    lines = (stage / "metrics.jsonl").read_text().splitlines()
    assert "soft_targets_small_from_wide" in json.loads(lines[-1])["terms"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": {"a": MODEL}}, "at least 2"),
        ({"models": {"a": MODEL, "control": MODEL}}, "cannot be called 'control'"),
        ({"objective": [{"kind": "cross_entropy"}]}, "no term of the objective asks another student"),
        ({"objective": [{"kind": "soft_targets", "teacher": "b"}]}, "leave out student and teacher"),
    ],
)
def test_what_is_no_mutual_learning_is_refused(change, message) -> None:
    stage = {
        "name": "pair",
        "models": {"a": MODEL, "b": MODEL},
        "objective": [{"kind": "soft_targets"}],
        "training": TRAINING,
    }
    Mutual.model_validate(stage)
    with pytest.raises(ValidationError, match=message):
        Mutual.model_validate({**stage, **change})
