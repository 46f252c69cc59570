"""The stage that makes a smaller copy of a model."""

import json
from pathlib import Path

import pytest
import torch

from understudy.engine import SilentProgress
from understudy.pipeline.run import run
from understudy.recipe.joining import joining_problems
from understudy.recipe.loading import parse_recipe
from understudy.recipe.problems import RecipeError
from understudy.sources import load_artifact

RECIPE = """
version: 1
name: scaling
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: big
    model: {source: understudy, name: resnet, arguments: {widths: [8, 16], blocks: 2}}
    training: &training {steps: 30, optimizer: {kind: adam, lr: 3e-3}, execution: plain, select: last}
  - kind: scale
    name: small
    model: big
    width: 0.5
    depth: 0.5
"""
EVALUATE = "  - {kind: evaluate, name: comparison, models: [big, small], latency: false, memory: false}\n"
STEM = "stem.0.conv.weight"
TAUGHT = "    recovery: {training: {<<: *training, steps: 5}}\n"


def ran(text: str, out: Path) -> Path:
    return run(parse_recipe(text), out, progress=SilentProgress()) / "stages"


def test_a_copy_begins_with_the_weights_of_what_stayed(tmp_path) -> None:
    stages = ran(RECIPE, tmp_path)
    told = json.loads((stages / "small/seed-0/stage.json").read_text())
    assert told["blocks"] == {"stage1": [2, 1], "stage2": [2, 1]}
    assert told["cost"]["after"]["macs"] < 0.2 * told["cost"]["before"]["macs"]
    big, small = (load_artifact(stages / name / "seed-0") for name in ("big", "small"))
    filters = [{each.numpy().tobytes() for each in network.module.state_dict()[STEM]} for network in (big, small)]
    assert len(filters[1]) == 4
    assert filters[1] < filters[0]


def test_it_learns_from_the_model_and_its_control_alone(tmp_path) -> None:
    stages = ran(RECIPE + TAUGHT + EVALUATE, tmp_path)
    rows = json.loads((stages / "comparison/seed-0/evaluation.json").read_text())["rows"]
    assert [(row["name"], row["role"]) for row in rows] == [
        ("big", "teacher"),
        ("small", "student"),
        ("small control", "control"),
    ]
    assert rows[1]["params"] < 0.25 * rows[0]["params"]


def test_random_weights_are_those_of_the_seed_and_not_the_models(tmp_path) -> None:
    drawn = RECIPE + "    weights: random\n"
    runs = [ran(text, tmp_path / name) for name, text in (("one", drawn), ("two", drawn), ("taken", RECIPE))]
    *weights, taken = (load_artifact(stages / "small/seed-0").module.state_dict() for stages in runs)
    matrices = [name for name, tensor in taken.items() if tensor.ndim > 1]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in taken)
    assert not any(torch.equal(weights[0][name], taken[name]) for name in matrices)


def test_the_model_itself_is_no_copy() -> None:
    with pytest.raises(RecipeError, match="it is the model itself; give one below 1"):
        parse_recipe(RECIPE.replace("    width: 0.5\n    depth: 0.5\n", ""))


def test_a_check_finds_a_network_without_blocks() -> None:
    mlp = RECIPE.replace("name: resnet, arguments: {widths: [8, 16], blocks: 2}", "name: mlp, arguments: {hidden: [8]}")
    (problem,) = joining_problems(parse_recipe(mlp))
    assert problem.path == ("stages", 1, "depth")
    assert "none gives what it is given in the same shape" in problem.message


def test_a_check_lets_later_stages_see_the_copy() -> None:
    again = """
  - kind: train
    name: again
    start: small
    model: {source: understudy, name: resnet, arguments: {widths: [8, 16], blocks: 2}}
    training: *training
"""
    (problem,) = joining_problems(parse_recipe(RECIPE + again))
    assert problem.path == ("stages", 2, "start")
