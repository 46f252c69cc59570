"""What a training without a teacher makes of samples without a label."""

import json
from pathlib import Path

import pytest

from understudy.engine import SilentProgress
from understudy.pipeline.run import run
from understudy.recipe.loading import parse_recipe

RECIPE = """
version: 1
name: few
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: few
    model: {source: understudy, name: cnn, arguments: {widths: [4, 8]}}
    subset: {labels: 20, samples: 100}
    training: {epochs: 3, batch_size: 10, optimizer: {lr: 0.1}}
"""


@pytest.mark.parametrize(
    ("objective", "steps", "samples"),
    [("", 6, 20), ("    objective: [{kind: cross_entropy}, {kind: teacher_free}]\n", 30, 100)],
    ids=["supervised", "with terms of its own"],
)
def test_samples_without_a_label_are_no_part_of_a_supervised_training(
    objective, steps, samples, tmp_path: Path
) -> None:
    text = RECIPE + objective
    run(parse_recipe(text), tmp_path, progress=SilentProgress())
    record = json.loads((tmp_path / "stages/few/seed-0/stage.json").read_text())
    assert (record["training"]["steps"], record["training"]["samples"]) == (steps, samples)
    assert record["data"] == "100 of 1,294 images; 20 of them are labelled (2 per class)"
