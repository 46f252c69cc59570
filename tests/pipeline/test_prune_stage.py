"""The stage that prunes: its keys, and what `understudy check` says of it."""

import pytest
from pydantic import ValidationError

from understudy import Target
from understudy.pipeline.stages import Prune
from understudy.recipe.joining import joining_problems
from understudy.recipe.loading import parse_recipe
from understudy.recipe.problems import RecipeError

RECIPE = """
version: 1
name: pruning
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: big
    model: {source: understudy, name: cnn, arguments: {widths: [8, 8]}}
    training: &training {epochs: 1, batch_size: 64, optimizer: {kind: adam, lr: 3e-3}, select: last}
  - kind: prune
    name: small
    model: big
    target: {macs: 0.5}
"""


def of(text: str) -> str:
    return RECIPE.replace("target: {macs: 0.5}", text)


def test_what_it_needs() -> None:
    stage = Prune.model_validate(
        {
            "name": "small",
            "model": "big@2",
            "target": {"latency_ms": 2.0},
            "steps": 3,
            "recovery": {"teacher": ["other", "big@2"], "training": {"epochs": 1, "optimizer": {"lr": 0.1}}},
        }
    )
    assert stage.target == Target(latency_ms=2.0)
    assert (stage.needs, stage.reads, stage.asks) == (("big", "other"), ("big@2", "other", "big@2"), ("other",))
    assert stage.network == "big"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("target: {macs: 1.5}", 14, "less than 1"),
        ("target: {macs: 0.5, params: 0.5}", 14, "expected one of macs, params, latency"),
        ("target: {mcas: 0.5}", 14, "mcas"),
        ("target: {macs: 0.5}\n    steps: 3", 15, "several steps are for the training between them"),
        ("target: {sparsity: 0.5}\n    importance: taylor", 15, "single weights are compared by their magnitude"),
        ("target: {macs: 0.5}\n    importance: tailor", 15, "taylor"),
    ],
)
def test_wrong_keys_are_named_with_their_line(text, line, message) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        parse_recipe(of(text))
    assert f":{line}" in str(caught.value) or f"line {line}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("target: {macs: 0.0001}", "target", "cannot be met"),
        ("target: {macs: 0.5}\n    keep: [blok1]", "keep", "the network has no layer 'blok1'"),
        ("target: {sparsity: 0.5}\n    keep: [blok1]", "keep", "the network has no layer 'blok1'"),
    ],
)
def test_a_check_prunes_at_random_weights(text, key, message) -> None:
    (problem,) = joining_problems(parse_recipe(of(text)))
    assert (problem.path, message in problem.message) == (("stages", 1, key), True)


def test_bn_scale_without_batch_normalisation_is_found() -> None:
    text = of("target: {macs: 0.5}\n    importance: bn_scale").replace(
        "name: cnn, arguments: {widths: [8, 8]}", "name: mlp, arguments: {hidden: [8]}"
    )
    (problem,) = joining_problems(parse_recipe(text))
    assert (problem.path, "use magnitude" in problem.message) == (("stages", 1, "importance"), True)


def test_later_stages_see_the_pruned_network() -> None:
    text = (
        RECIPE
        + """
    importance: taylor
  - kind: train
    name: again
    start: small
    model: {source: understudy, name: cnn, arguments: {widths: [8, 8]}}
    training: *training
"""
    )
    (problem,) = joining_problems(parse_recipe(text))
    assert problem.path == ("stages", 2, "start")
    assert "has the shape (4," in problem.message or "has the shape" in problem.message


def test_terms_of_a_recovery_are_joined() -> None:
    recovery = "{training: *training, objective: [{kind: hint, student_layer: nowhere, teacher_layer: head}]}"
    problems = joining_problems(parse_recipe(of(f"target: {{macs: 0.5}}\n    recovery: {recovery}")))
    assert [problem.path[:5] for problem in problems] == [("stages", 1, "recovery", "objective", 0)]
    assert "student has no layer 'nowhere'" in problems[0].message


def test_a_time_is_not_measured_by_a_check() -> None:
    assert joining_problems(parse_recipe(of("target: {latency_ms: 0.000001}"))) == []


def test_a_target_is_a_value_in_python_too() -> None:
    with pytest.raises(ValidationError, match="less than 1"):
        Prune(name="small", model="big", target=Target(macs=2))
