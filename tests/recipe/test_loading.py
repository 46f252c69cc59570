"""From a file to a recipe, or to everything that is wrong with it."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from understudy.engine.training import Optimizer, Training
from understudy.methods import CrossEntropy, SoftTargets
from understudy.pipeline.stages import Distill, Evaluate, Train
from understudy.recipe import Recipe, RecipeError, dump_recipe, load_recipe, named_code, named_files, parse_recipe
from understudy.schedules import Cosine, Linear
from understudy.sources.data import DataSpec
from understudy.sources.model_specs import BuiltinModel, PythonModel
from understudy.sources.splits import Subset
from understudy.tasks import ImageClassification
from understudy.views import Views

GOOD = """\
version: 1
name: small
task: image_classification
data:
  source: sklearn/digits
stages:
  - kind: train
    name: teacher
    model: {source: understudy, name: mlp, arguments: {hidden: [32]}}
    training: &training
      epochs: 2
      optimizer: {kind: sgd, lr: 5e-2}
  - kind: distill
    name: student
    teacher: teacher
    model: {source: understudy, name: mlp, arguments: {hidden: [8]}}
    objective:
      - {kind: cross_entropy, weight: 0.1}
      - {kind: soft_targets, weight: 0.9, temperature: 4}
    training: *training
  - kind: evaluate
    name: results
    models: [teacher, student]
"""


def problems(text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, overrides, name="r.yaml")
    assert caught.value.exit_code == 2
    assert str(caught.value).splitlines()[1:] == [f"  {problem}" for problem in caught.value.problems]
    return [str(problem) for problem in caught.value.problems]


def test_a_recipe_is_the_python_object():
    recipe = parse_recipe(GOOD)
    optimizer = Optimizer(kind="sgd", lr=0.05)
    training = Training(epochs=2, optimizer=optimizer)
    assert recipe == Recipe(
        version=1,
        name="small",
        task=ImageClassification(),
        data=DataSpec(source="sklearn/digits"),
        stages=(
            Train(
                name="teacher",
                model=BuiltinModel(name="mlp", arguments={"hidden": [32]}),
                training=training,
            ),
            Distill(
                name="student",
                teacher="teacher",
                model=BuiltinModel(name="mlp", arguments={"hidden": [8]}),
                objective=(0.1 * CrossEntropy(), 0.9 * SoftTargets(temperature=4.0)),
                training=training,
            ),
            Evaluate(name="results", models=("teacher", "student")),
        ),
    )
    assert recipe.digest() == parse_recipe(GOOD).digest()


def test_overrides_change_values_only():
    recipe = parse_recipe(GOOD, ["stages.student.training.epochs=7", "seeds=[3]", "task={kind: classification}"])
    assert recipe.stages[1].training.epochs == 7.0
    assert recipe.stages[0].training.epochs == 2.0, "the anchor that both came from is not changed for the other"
    assert recipe.seeds == (3,)
    assert recipe.task.kind == "classification"


def test_all_problems_of_a_file_come_at_once_in_the_order_of_their_lines():
    text = """\
version: 2
name: my recipe
task: image_clasification
data:
  source: ./nowhere
  carv: 0.1
stages:
  - kind: train
    name: teacher
    model: {source: torchvision, name: resnet81}
    training: {epochs: "5", optimizer: {kind: sgd, lr: 5e-2}, epochs: 6}
  - kind: distill
    name: student
    teacher: techer
    model: {source: understudy, name: mlp, arguments: {hidden: [8]}, state: weights.pth}
    objective: [{kind: soft_target}]
    epochs: 5
    training: {epochs: 1, optimizer: {lr: 1}}
  - kind: evaluate
    name: student
    models: [nobody, later]
  - {kind: evaluate, name: later, models: [later]}
"""
    found = problems(text, "stages.0.views.shfit=1", "seeds=3")
    assert [problem.split(": ")[:2] for problem in found] == [
        ["r.yaml:1", "version"],
        ["r.yaml:2", "name"],
        ["r.yaml:3", "task.kind"],
        ["r.yaml:5", "data.source"],
        ["r.yaml:6", "data.carv"],
        ["r.yaml:10", "stages.0.model.name"],
        ["r.yaml:11", "stages.0.training.epochs"],
        ["r.yaml:11", "stages.0.training.epochs"],
        ["r.yaml:14", "stages.1.teacher"],
        ["r.yaml:15", "stages.1.model.state"],
        ["r.yaml:16", "stages.1.objective.0.kind"],
        ["r.yaml:17", "stages.1.epochs"],
        ["r.yaml:20", "stages.2.name"],
        ["r.yaml:21", "stages.2.models.0"],
        ["r.yaml:21", "stages.2.models.1"],
        ["r.yaml:22", "stages.3.models.0"],
        ["--set stages.0.views.shfit=1", "unknown key 'shfit'; nearest"],
        ["--set seeds=3", "expected a list, got 3; write [3]"],
    ]
    text = "\n".join(found)
    for words in (
        "nearest: 'image_classification'",
        "nearest: 'resnet18'",
        "write 5 without quotes",
        "convert_state",
        "nearest: 'soft_targets'",
        "'training.epochs'",
        "stage 'later' comes later",
        "refers to itself",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ("teacher: teacher", "teacher: techer"),
            "r.yaml:15: stages.1.teacher: there is no stage 'techer'; nearest: 'teacher'",
        ),
        (
            ("teacher: teacher", "teacher: results"),
            "r.yaml:15: stages.1.teacher: stage 'results' comes later; move it before 'student'",
        ),
        (
            (
                "models: [teacher, student]",
                "models: [teacher, student]\n  - {kind: evaluate, name: twice, models: [results]}",
            ),
            "r.yaml:24: stages.3.models.0: stage 'results' (evaluate) leaves no model; name one that does",
        ),
        (
            ("name: results", "name: student"),
            "r.yaml:22: stages.2.name: 'student' is the name of stages.1 already; choose another",
        ),
        (("version: 1\n", ""), "r.yaml:1: version: is missing: Version of this format; 1 is the only one so far."),
        (("name: small", "name: small\nseeds: [1, 1]"), "r.yaml:3: seeds: given twice: 1; every seed counts once"),
        (("name: small", "name: small\nseeds: []"), "r.yaml:3: seeds: expected at least 1 item, got a list of 0"),
        (("task: image_classification", "task: 5"), "r.yaml:3: task: expected a mapping with 'kind'"),
    ],
)
def test_a_single_fault(change, expected):
    found = problems(GOOD.replace(*change))
    assert len(found) == 1, found
    assert found[0].startswith(expected)


@pytest.mark.parametrize("text", ["", "- a\n", "just words\n", "5\n"])
def test_a_file_that_is_no_mapping(text):
    assert "expected keys such as 'version' and 'stages'" in problems(text)[0]


def test_a_recipe_made_in_python_is_held_to_the_same_rules():
    recipe = parse_recipe(GOOD)
    with pytest.raises(ValidationError, match=r"stages.1.teacher: there is no stage 'teacher'"):
        Recipe(
            version=1, name="x", task="classification", data=recipe.data, stages=recipe.stages[2:] + recipe.stages[1:2]
        )


def test_files_are_looked_for_only_when_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    text = GOOD.replace("sklearn/digits", "./digit")
    assert "'./digit'; nearest: 'digits'" in problems(text)[0]
    assert parse_recipe(text, files=False).data.source == "./digit"
    assert named_files(parse_recipe(GOOD.replace("sklearn/digits", "./digits"))) == [("data.source", "./digits")]
    assert named_files(parse_recipe(GOOD)) == []


def test_code_is_listed_and_not_imported(tmp_path, monkeypatch):
    (tmp_path / "own_models.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    text = GOOD.replace(
        "{source: understudy, name: mlp, arguments: {hidden: [8]}}", '{source: python, target: "own_models:net"}'
    )
    assert named_code(parse_recipe(text)) == [("stages.1.model.target", "own_models:net")]


def test_a_file_is_loaded_with_its_own_name_in_errors(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(GOOD)
    assert load_recipe(file, ["name=other"]).name == "other"
    file.write_text(GOOD.replace("lr: 5e-2", "lr: much"))
    with pytest.raises(RecipeError, match=rf"{file}:12: stages.0.training.optimizer.lr: expected a number"):
        load_recipe(file)


SLUGS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,12}", fullmatch=True)
NUMBERS = st.floats(0.0, 1e6, allow_nan=False)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
WEIGHTS = NUMBERS | st.builds(Linear, start=NUMBERS, end=NUMBERS) | st.builds(Cosine)
TERMS = st.builds(
    lambda weights, temperature: (
        CrossEntropy(weight=weights[0]),
        SoftTargets(weight=weights[1], temperature=temperature),
    ),
    st.tuples(WEIGHTS, WEIGHTS),
    st.floats(1e-3, 1e3),
)
TRAININGS = st.builds(
    Training,
    steps=st.integers(1, 10**9),
    optimizer=st.builds(
        Optimizer, lr=NUMBERS, options=st.dictionaries(TEXTS, NUMBERS | TEXTS | st.booleans(), max_size=2)
    ),
    schedule=st.none() | st.builds(Cosine),
    warmup=st.floats(0.0, 1.0),
)
MODELS = st.builds(BuiltinModel, name=st.just("mlp"), arguments=st.just({"hidden": [8]})) | st.builds(
    PythonModel, target=st.just("a.b:c"), arguments=st.dictionaries(TEXTS, st.none() | TEXTS | NUMBERS, max_size=2)
)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    teacher, student, results = draw(st.lists(SLUGS, min_size=3, max_size=3, unique=True))
    return Recipe(
        version=1,
        name=draw(SLUGS),
        description=draw(TEXTS),
        task=draw(st.sampled_from(["classification", "image_classification"])),
        seeds=tuple(draw(st.lists(st.integers(0, 2**63), min_size=1, max_size=3, unique=True))),
        data=DataSpec(source=draw(TEXTS), classes=draw(st.none() | st.tuples(TEXTS, TEXTS))),
        stages=(
            Train(name=teacher, model=draw(MODELS), training=draw(TRAININGS), views=draw(st.none() | st.builds(Views))),
            Distill(
                name=student,
                teacher=draw(st.sampled_from([teacher, (teacher,)])),
                model=draw(MODELS),
                objective=draw(TERMS),
                training=draw(TRAININGS),
                subset=draw(st.none() | st.builds(Subset, labels=st.integers(1, 100))),
            ),
            Evaluate(name=results, models=(teacher, student)),
        ),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(recipes())
def test_what_is_dumped_loads_to_an_equal_recipe(recipe):
    text = dump_recipe(recipe)
    assert parse_recipe(text, files=False) == recipe
    assert Recipe.model_validate_json(text) == recipe


@example("a\x85b")
@example("\u2028 \ufeff")
@example("yes: no # 'x' \"y\" \\ \t")
@example("😀 τ × –")
@settings(max_examples=30, deadline=None)
@given(TEXTS)
def test_any_text_survives_the_dump(description):
    recipe = parse_recipe(GOOD).model_copy(update={"description": description})
    assert parse_recipe(dump_recipe(recipe)) == recipe


def test_the_schema_for_editors_knows_every_kind_and_says_what_keys_mean():
    schema = Recipe.model_json_schema()
    assert schema["additionalProperties"] is False
    assert schema["properties"]["seeds"]["description"].startswith("Every stage runs once")
    text = json.dumps(schema)
    for kind in ("train", "distill", "evaluate", "fit_bias", "soft_targets", "one_cycle", "torchvision", "artifact"):
        assert f'"{kind}"' in text


def test_shipped_recipes_are_valid():
    folder = Path(__file__).resolve().parents[2] / "recipes"
    files = sorted(folder.glob("*.yaml"))
    assert files
    for file in files:
        assert load_recipe(file, files=False).name == file.stem
