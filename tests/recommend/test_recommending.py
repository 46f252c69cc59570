"""Students for a teacher: what is measured, how it is sorted, what is said, and that the lines can be pasted."""

import re
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from understudy.errors import InputError
from understudy.measure import cost
from understudy.pipeline.check import deep_check
from understudy.recipe.loading import parse_recipe
from understudy.recommend import Option, Recommendation, recommend
from understudy.recommend.candidates import Candidate, _written
from understudy.recommend.measuring import TEACHER, measured
from understudy.recommend.promise import by_promise, relative_error
from understudy.recommend.recipe_lines import flow, recipe_lines
from understudy.recommend.rules import about_assistant, advice, assistant_for, assistants, still_to_do
from understudy.sources import build_model
from understudy.sources.model_specs import BuiltinModel, TorchvisionModel, TransformersModel
from understudy.targets import parse_target

DIGITS = torch.rand(2, 1, 8, 8)
RECIPE = """
version: 1
name: pasted
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: teacher
    model: {source: understudy, name: cnn, arguments: {widths: [16, 32]}}
    training: {epochs: 1, batch_size: 64, optimizer: {kind: adam, lr: 3e-3}}
"""


def option(name: str, **changes) -> Option:
    plain = Option(name, {"source": "timm", "name": name}, None, None, True, 10**6, 10**8, 4 * 10**6, 1.0, 0.5)
    return replace(plain, **changes)


WHOLE = option(TEACHER, macs=10**9, latency_ms=9.0, excess=2.0)


def students(target: str, **options) -> Recommendation:
    spec = BuiltinModel(name="cnn", arguments={"widths": [16, 32]})
    teacher = build_model(spec, classes=10, inputs=DIGITS)
    return recommend(teacher, spec, inputs=DIGITS, classes=10, limits=parse_target(target), seconds=100.0, **options)


@pytest.fixture(scope="module")
def found() -> Recommendation:
    return students("macs<60k")


@pytest.mark.e2e
def test_everything_within_is_measured_smaller_and_in_its_order(found: Recommendation) -> None:
    assert found.options
    assert all(each.macs < 60_000 and each.within for each in found.options)
    assert all(each.macs >= 60_000 and not each.within for each in found.outside)
    assert [each.macs for each in found.options] == sorted((each.macs for each in found.options), reverse=True)
    assert all(each.latency_ms > 0 and each.why for each in found.options)
    assert any(each.channels == 0.5 for each in found.options)
    assert found.teacher.macs == 16 * 9 * 64 + 32 * 16 * 9 * 16 + 320
    assert "batch 1" in found.conditions
    assert found.failed == {}


@pytest.mark.e2e
def test_options_cost_what_their_recipe_builds(found: Recommendation) -> None:
    for each in found.options:
        if each.model is not None:
            model = build_model(BuiltinModel.model_validate(each.model), classes=10, inputs=DIGITS)
            found = cost(model, DIGITS)
            assert (each.parameters, each.macs, each.size_bytes) == (found.parameters, found.macs, found.size_bytes)


@pytest.mark.e2e
def test_a_target_that_none_meets_names_the_nearest_and_what_is_left_to_do() -> None:
    found = students("params<10", most=2)
    assert (found.options, found.recipe, found.advice) == ((), "", ())
    excess = [each.excess for each in found.outside]
    assert 1.0 < excess[0] == min(excess)
    assert found.outside[0].why.startswith("params ")
    assert "prune it to" in found.outside[0].why


@pytest.mark.e2e
def test_a_teacher_within_the_target_is_told() -> None:
    found = students("params<1M", most=1)
    assert found.teacher.within
    assert found.advice[0].startswith("The teacher itself is within the target already")


@pytest.mark.e2e
def test_without_a_target_all_smaller_ones_are_listed() -> None:
    spec = BuiltinModel(name="mlp", arguments={"hidden": [32]})
    teacher = build_model(spec, classes=10, inputs=DIGITS)
    found = recommend(teacher, spec, inputs=DIGITS, classes=10, most=2)
    assert not found.outside
    assert all(each.parameters < found.teacher.parameters for each in found.options)


@pytest.mark.e2e
@pytest.mark.parametrize("number", [0, -1])
def test_the_lines_can_be_pasted_and_the_student_can_be_built(found: Recommendation, number: int) -> None:
    """For each kind of option: a copy, and a pruned teacher."""
    kinds = sorted(found.options, key=lambda each: each.channels is None)
    recipe = parse_recipe(RECIPE + recipe_lines(kinds[number]).replace("\n", "\n  ").replace("- kind", "  - kind", 1))
    stage = recipe.stages[1]
    assert (stage.name, stage.kind) == ("student", "distill" if kinds[number].model is not None else "prune")
    assert not [finding for finding in deep_check(recipe) if finding.severity == "error"]


def candidate(name: str, build) -> Candidate:
    return Candidate(name, build, model={"source": "python"})


def test_what_cannot_be_built_is_told_and_time_is_kept() -> None:
    def broken() -> nn.Module:
        raise InputError("these inputs are too small\nfor it")

    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    larger = nn.Sequential(nn.Flatten(), nn.Linear(64, 100), nn.Linear(100, 10))
    smaller = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Linear(1, 10))
    listed = [candidate("a", broken), candidate("b", lambda: larger), candidate("c", lambda: smaller)]
    wanted = {"inputs": DIGITS, "limits": parse_target("params<1k"), "most": 4}
    seen = measured(teacher, listed, deadline=time.monotonic() + 100.0, **wanted)
    assert seen.failed == {"a": "these inputs are too small"}
    assert [each.name for each in seen.options] == ["c"]
    late = measured(teacher, listed, deadline=time.monotonic() - 1.0, **wanted)
    assert (late.options, late.unreached) == ((), 3)
    assert late.teacher.latency_ms > 0


def test_published_errors_and_the_rule_of_thumb_decide_the_order() -> None:
    assert relative_error(97, 300) == pytest.approx(34.6 / 28.0, rel=0.03)
    assert relative_error(59, 300) == pytest.approx(39.7 / 28.0, rel=0.03)
    half = option("half", macs=5 * 10**8)
    pruned = option("pruned", macs=5 * 10**8, model=None, channels=0.7)
    good = option("good", top1=80.0, same_family=False)
    level = option("level", top1=100 - 25 * relative_error(5 * 10**8, 10**9), same_family=False)
    poor = option("poor", top1=60.0)
    ranked = by_promise([poor, half, level, good, pruned], WHOLE, teacher_error=25.0)
    assert [each.name for each in ranked] == ["good", "pruned", "half", "level", "poor"]
    assert "80.0 % on ImageNet as published; another family" in ranked[0].why
    assert "begins with the teacher's weights; about 1.15 times" in ranked[1].why
    assert "(71 % on ImageNet)" in ranked[2].why
    unknown = by_promise([poor, half, good, pruned], WHOLE, teacher_error=None)
    assert [each.name for each in unknown] == ["pruned", "half", "good", "poor"]


def test_assistants_are_for_large_steps_and_lie_in_the_geometric_middle() -> None:
    assert [assistants(ratio) for ratio in (1.5, 10.0, 11.0, 100.0, 101.0)] == [0, 0, 1, 1, 2]
    near = option("near", macs=2 * 10**8)
    assert about_assistant(WHOLE, near, []).startswith("A teacher assistant? No: the first choice has 1/5 ")
    tiny, middle = option("tiny", macs=10**7), option("middle", macs=10**8)
    said = about_assistant(WHOLE, tiny, [tiny, near, middle])
    assert said.startswith("A teacher assistant? Perhaps: the first choice has 1/100 ")
    assert "an assistant of 100 M MACs, such as middle" in said
    stranger = replace(middle, name="stranger", same_family=False)
    assert assistant_for(WHOLE, tiny, [near, stranger]) is near
    assert "assistants of 208 M and 43.3 M MACs. " in about_assistant(WHOLE, option("far", macs=9 * 10**6), [])


def test_hints_are_for_one_family() -> None:
    (_, _, hints) = advice(WHOLE, option("a"), [], ())
    assert hints.startswith("Hints? Yes")
    (_, _, hints) = advice(WHOLE, option("a", same_family=False), [], ())
    assert hints.startswith("Hints? Not first")
    assert "hint" in recipe_lines(option("a"))
    assert "hint" not in recipe_lines(option("a", same_family=False))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("latency<0.5ms", "latency 2 times above: export it .* prune it to 50% of its multiplications"),
        ("bytes<2MB", "bytes 2 times above: quantize it, int8 weights take a quarter"),
        ("bytes<400kB", "bytes 10 times above: quantize it and prune it to 40% of its parameters"),
        ("macs<50M", "macs 2 times above: prune it to 50%$"),
        ("macs<50M,params<2M", "^macs 2 times above: prune it to 50%$"),
    ],
)
def test_what_has_to_be_done_beside(target, said) -> None:
    assert re.search(said, still_to_do(option("a"), parse_target(target)))


@pytest.mark.e2e
def test_libraries_are_asked_for_images_of_their_size() -> None:
    images = torch.rand(2, 3, 96, 96)
    spec = TorchvisionModel(name="resnet18")
    teacher = build_model(spec, classes=10, inputs=images)
    found = recommend(
        teacher, spec, inputs=images, classes=10, limits=parse_target("params<2.2M,macs<20M"), seconds=100.0, most=2
    )
    assert found.too_large > 20
    library = [each for each in found.options if not each.is_copy]
    assert library
    assert [each.top1 for each in library] == sorted((each.top1 for each in library), reverse=True)
    assert all(each.parameters < 2.2e6 and each.macs < 20e6 for each in found.options)


@pytest.mark.e2e
def test_only_what_differs_from_a_configuration_is_written() -> None:
    spec = TransformersModel(config="bert", arguments={"hidden_size": 64, "num_hidden_layers": 12, "vocab_size": 99})
    assert list(_written(spec).items()) == [
        ("source", "transformers"),
        ("config", "bert"),
        ("arguments", {"hidden_size": 64, "vocab_size": 99}),
    ]


def test_one_line_of_yaml() -> None:
    assert flow({"name": "on", "a": ["1e5", 2, True, "x:y"]}) == '{name: "on", a: ["1e5", 2, true, "x:y"]}'
