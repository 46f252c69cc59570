"""Models that cannot be built and layers that cannot be joined, found with their lines before any training."""

import pytest

from understudy.recipe.loading import load_and_join
from understudy.recipe.problems import RecipeError

TEXT = """\
version: 1
name: joined
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: teacher
    model: {source: understudy, name: cnn, arguments: {widths: [8, 16]}}
    training: &training {epochs: 1, optimizer: {lr: 0.1}}
  - kind: distill
    name: student
    teacher: teacher
    model: {source: understudy, name: mlp, arguments: {hidden: [8]}}
    training: *training
    objective:
      - {kind: cross_entropy}
      - {kind: hint, student_layer: hidden1, teacher_layer: flatten}
"""


@pytest.fixture
def recipe(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text(TEXT)
    return file


def problems(file, *changes: tuple[str, str]) -> list[str]:
    text = file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_and_join(file)
    return [str(problem).removeprefix(f"{file}:") for problem in caught.value.problems]


def test_layers_that_fit_are_accepted(recipe):
    assert load_and_join(recipe).name == "joined"


def test_unknown_layers_of_both_sides_and_a_model_that_cannot_be_built_come_at_once(recipe):
    found = problems(
        recipe,
        ("student_layer: hidden1, teacher_layer: flatten", "student_layer: hiden1, teacher_layer: block3"),
        ("  - kind: distill", "  - {kind: train, name: x, model: {source: torchvision, name: resnet18, arguments: "
         "{foo: 1}}, training: *training}\n  - kind: distill"),
    )  # fmt: skip
    assert [problem.split(": ")[:2] for problem in found] == [
        ["10", "stages.1.model"],
        ["18", "stages.2.objective.1.student_layer"],
        ["18", "stages.2.objective.1.teacher_layer"],
    ]
    assert "foo" in found[0]
    assert "nearest: 'hidden1'" in found[1]
    assert "nearest: 'block2'" in found[2]


def test_the_layers_of_a_teacher_whose_biases_were_fitted_are_those_of_its_network(recipe):
    (found,) = problems(
        recipe,
        ("  - kind: distill", "  - {kind: fit_bias, name: fitted, student: teacher, teacher: teacher, classes: [3]}\n"
         "  - kind: distill"),
        ("    teacher: teacher\n", "    teacher: fitted\n"),
        ("teacher_layer: flatten", "teacher_layer: flaten"),
    )  # fmt: skip
    assert "teacher has no layer 'flaten'; nearest: 'flatten'" in found


def test_shapes_that_no_adapter_joins(recipe):
    (found,) = problems(recipe, ("teacher_layer: flatten", "teacher_layer: block1"))
    assert found.startswith("17: stages.1.objective.1: hint ('hidden1' to 'block1'): no adapter joins")


def test_data_that_would_be_downloaded_are_not(recipe):
    (found,) = problems(recipe, ("sklearn/digits", "owner/name"), ("teacher_layer: flatten", "teacher_layer: flaten"))
    assert found.startswith("17: stages.1.objective.1.teacher_layer: teacher has no layer 'flaten'; nearest: 'flatten'")


def test_layers_that_are_found_are_joined_too(recipe):
    named = "kind: hint, student_layer: hidden1, teacher_layer: flatten"
    recipe.write_text(recipe.read_text().replace(named, "kind: relational_distance"))
    assert load_and_join(recipe).name == "joined"
    found = problems(recipe, ("kind: relational_distance", "kind: hint"))
    assert found
    assert all(line.startswith("17: stages.1.objective.1: hint ('") and "no adapter joins" in line for line in found)


def test_each_missing_layer_of_a_list_is_named_at_its_key(recipe):
    listed = "student_layer: [hidden1, hiden], teacher_layer: [flatten, flatten]"
    (found,) = problems(recipe, ("student_layer: hidden1, teacher_layer: flatten", listed))
    assert found.startswith("17: stages.1.objective.1.student_layer: student has no layer 'hiden'; nearest: 'hidden1'")


CHUNKS = ("{epochs: 1,", "{head_chunk: 4, epochs: 1,")


def test_logits_of_a_few_positions_at_a_time_are_accepted(recipe):
    recipe.write_text(recipe.read_text().replace(*CHUNKS))
    assert load_and_join(recipe).stages[1].training.head_chunk == 4


def test_terms_on_all_logits_at_once_are_refused_where_there_are_never_so_many(recipe):
    found = problems(recipe, CHUNKS, ("kind: hint, student_layer: hidden1, teacher_layer: flatten", "kind: dist"))
    (problem,) = found
    assert "stages.1.training.head_chunk: dist needs the logits of all positions at once" in problem


def test_a_network_whose_logits_are_no_linear_layer_s_cannot_stop_before_them(recipe, tmp_path, monkeypatch):
    code = "from torch import nn\n\n\ndef make():\n    layers = nn.Flatten(), nn.Linear(64, 10), nn.LogSoftmax(-1)\n"
    (tmp_path / "odd_networks.py").write_text(code + "    return nn.Sequential(*layers)\n")
    monkeypatch.syspath_prepend(tmp_path)
    model = "{source: python, target: odd_networks:make}"
    found = problems(
        recipe,
        CHUNKS,
        ("{source: understudy, name: mlp, arguments: {hidden: [8]}}", model),
        ("kind: hint, student_layer: hidden1, teacher_layer: flatten", "kind: soft_targets"),
    )
    (problem,) = found
    assert "stages.1.training.head_chunk: the logits of Sequential are not the output of its last linear" in problem


def test_students_that_teach_each_other_are_joined(recipe):
    text = recipe.read_text()
    begun = text[: text.index("  - kind: train")]
    mutual = (
        begun
        + """\
  - kind: mutual
    name: pair
    models:
      small: {source: understudy, name: mlp, arguments: {hidden: [8]}}
      wide: {source: understudy, name: mlp, arguments: {hidden: [16]}}
    training: {epochs: 1, optimizer: {lr: 0.1}}
    objective:
      - {kind: cross_entropy}
      - {kind: hint, student_layer: hidden1, teacher_layer: hidden1}
"""
    )
    recipe.write_text(mutual)
    assert load_and_join(recipe).name == "joined"
    (found,) = problems(recipe, ("student_layer: hidden1", "student_layer: hiden1"))
    assert found.startswith("14: stages.0.objective.1.student_layer: student has no layer 'hiden1'; nearest: 'hidden1'")
    (found,) = problems(recipe, ("hiden1", "hidden1"), ("name: mlp, arguments: {hidden: [16]}", "name: nlp"))
    known = "'mlp', 'cnn', 'resnet', 'bag', 'lstm', 'gru' or 'text_cnn'"
    assert found.startswith(f"10: stages.0.models.wide.name: expected {known}, got the text 'nlp'")
