"""A `distill` stage whose student grows inside its teacher."""

import json

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
name: replacing
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: big
    model: {source: understudy, name: resnet, arguments: {widths: [8, 8], blocks: 2}}
    training: &training {steps: 20, optimizer: {kind: adam, lr: 3e-3}, execution: plain, select: last}
  - kind: distill
    name: small
    teacher: big
    model: {source: understudy, name: resnet, arguments: {widths: [8, 8], blocks: 1}}
    start: {model: big}
    replacing: {start: 0.5, until: 0.99}
    objective: [{kind: cross_entropy}]
    training: *training
"""


def test_around_the_blocks_the_student_stays_the_teacher(tmp_path) -> None:
    run(parse_recipe(RECIPE), tmp_path / "run", progress=SilentProgress())
    places = {name: tmp_path / f"run/stages/{name}/seed-0" for name in ("big", "small")}
    big, small, control = (load_artifact(place).module for place in (*places.values(), places["small"] / "control"))
    assert torch.equal(small.state_dict()["stem.0.conv.weight"], big.state_dict()["stem.0.conv.weight"])
    assert not torch.equal(control.state_dict()["stem.0.conv.weight"], big.state_dict()["stem.0.conv.weight"])
    block = "stage1.block1.first.conv.weight"
    assert not torch.equal(small.state_dict()[block], big.state_dict()[block])
    told = json.loads((places["small"] / "stage.json").read_text())
    assert (told["teacher"], set(told["models"])) == (["big"], {"student", "control"})


def test_the_teachers_blocks_take_part(tmp_path) -> None:
    blocks = []
    for start in ("0.5", "1.0"):  # with 1.0 every block is the student's from the first step on
        out = run(
            parse_recipe(RECIPE.replace("start: 0.5", f"start: {start}")), tmp_path / start, progress=SilentProgress()
        )
        student = load_artifact(out / "stages/small/seed-0").module
        blocks.append(student.state_dict()["stage2.block1.first.conv.weight"])
    assert not torch.equal(*blocks)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("teacher: big", "teacher: [big, other]", "is about the blocks of one teacher"),
        ("start: {model: big}", "tuning: {freeze: 1}", "says itself what trains when, so that tuning cannot"),
        ("start: 0.5", "start: 0.0", "greater than 0"),
    ],
)
def test_what_makes_no_sense_beside_it(old, new, message) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(RECIPE.replace(old, new))


def test_a_recording_has_no_blocks() -> None:
    recorded = RECIPE.replace("  - kind: distill", "  - {kind: record, name: answers, teacher: big}\n  - kind: distill")
    with pytest.raises(RecipeError, match="answers"):
        parse_recipe(recorded.replace("teacher: big\n    model", "teacher: answers\n    model"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[8, 8], blocks: 1", "[8, 8], blocks: 3", "the student has 3 blocks in 'stage1', its teacher 2"),
        ("[8, 8], blocks: 1", "[4, 8], blocks: 1", "the teacher's blocks do not fit between the student's"),
    ],
)
def test_a_check_finds_blocks_that_cannot_stand_in(old, new, message) -> None:
    problems = joining_problems(parse_recipe(RECIPE.replace(old, new).replace("    start: {model: big}\n", "")))
    assert [problem.path for problem in problems] == [("stages", 1, "replacing")]
    assert message in problems[0].message
