"""The doctor's look at a recipe, whoever teaches in it."""

import pytest

from understudy.pipeline.check import deep_check
from understudy.recipe.loading import parse_recipe

RECIPE = """
version: 1
name: checked
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: big
    model: {source: understudy, name: mlp, arguments: {hidden: [16]}}
    snapshots: 2
    training: &training {epochs: 1, optimizer: {lr: 0.1}}
  - kind: distill
    name: first
    teacher: big
    model: &model {source: understudy, name: mlp, arguments: {hidden: [8]}}
    training: *training
    control: false
    objective: [{kind: soft_targets}]
  - {kind: fit_bias, name: fitted, student: first, teacher: big, classes: [3]}
  - kind: distill
    name: student
    teacher: TEACHER
    model: *model
    training: *training
    objective: [{kind: cross_entropy}, TERM]
"""


@pytest.mark.parametrize(
    ("teacher", "term", "waiting"),
    [
        ("fitted", "{kind: hint, student_layer: hidden1, teacher_layer: hidden1}", "'fitted'"),
        ("big@2", "{kind: soft_targets}", "'big@2'"),
        ("{big: 2, first: 1}", "{kind: soft_targets, teacher: first}", "'big', 'first'"),
    ],
)
def test_a_teacher_of_any_stage_is_built_and_judged_later(teacher, term, waiting):
    findings = deep_check(parse_recipe(RECIPE.replace("TEACHER", teacher).replace("TERM", term)))
    (later,) = [one for one in findings if "'student'" in one.message]
    assert later.severity == "note"
    assert later.seen == f"stage {waiting} comes before"
    assert not [one for one in findings if one.severity == "error"]


@pytest.mark.parametrize(("teacher", "term"), [("{kind: average}", "{kind: soft_targets}"), ("null", "TF")])
def test_a_student_that_teaches_itself_has_nobody_to_wait_for(teacher, term):
    text = RECIPE.replace("TEACHER", teacher).replace("TERM", term.replace("TF", "{kind: teacher_free}"))
    findings = [one for one in deep_check(parse_recipe(text)) if "'first'" not in one.message]
    assert [(one.check, one.severity) for one in findings] == (
        [("teacher_quality", "note")] if teacher != "null" else []
    )


MUTUAL = """
version: 1
name: checked
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: mutual
    name: pair
    models:
      small: {source: understudy, name: mlp, arguments: {hidden: [8]}}
      wide: {source: understudy, name: mlp, arguments: {hidden: [16]}}
    training: {epochs: 1, optimizer: {lr: 0.1}}
    objective: [{kind: cross_entropy}, {kind: soft_targets, temperature: 1.0, weight: WEIGHT}]
"""


def test_students_that_teach_each_other_are_examined_together():
    assert deep_check(parse_recipe(MUTUAL.replace("WEIGHT", "1"))) == []
    (found,) = deep_check(parse_recipe(MUTUAL.replace("WEIGHT", "1e5")))
    assert found.check == "term_balance"
