"""Who teaches, what is begun with, and which snapshots are kept: every way to say it, every mistake with its line."""

import pytest

from understudy.methods import SoftTargets
from understudy.pipeline.stages import Distill, Train
from understudy.pipeline.teaching import Average
from understudy.recipe.loading import load_and_join, parse_recipe
from understudy.recipe.problems import RecipeError

TEXT = """\
version: 1
name: teaching
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: cnn
    model: &model {source: understudy, name: mlp, arguments: {hidden: [8]}}
    snapshots: 2
    training: &training {epochs: 1, optimizer: {lr: 0.1}}
  - kind: train
    name: big
    model: {source: understudy, name: mlp, arguments: {hidden: [16]}}
    training: *training
  - kind: distill
    name: student
    model: *model
    training: *training
    teacher: TEACHER
    objective: [{kind: cross_entropy}, {kind: soft_targets}]
"""
SECOND = ", {kind: soft_targets}"


def text_with(teacher: str, *changes: tuple[str, str]) -> str:
    text = TEXT.replace("TEACHER", teacher)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def student(teacher: str, *changes: tuple[str, str]) -> Distill:
    stage = parse_recipe(text_with(teacher, *changes), files=False).stages[2]
    assert isinstance(stage, Distill)
    return stage


@pytest.mark.parametrize(
    ("written", "value", "reads", "needs"),
    [
        ("cnn", "cnn", ("cnn",), ("cnn",)),
        ("cnn@2", "cnn@2", ("cnn@2",), ("cnn",)),
        ("[cnn@1, cnn, big]", ("cnn@1", "cnn", "big"), ("cnn@1", "cnn", "big"), ("cnn", "big")),
        ("{cnn: 2, big: 0.5}", {"cnn": 2.0, "big": 0.5}, ("cnn", "big"), ("cnn", "big")),
        ("{kind: average}", Average(decay=0.999), (), ()),
        ("{kind: average, decay: 0.9}", Average(decay=0.9), (), ()),
    ],
)
def test_every_way_to_name_a_teacher(written, value, reads, needs):
    stage = student(written)
    assert stage.teacher == value
    assert (stage.reads, stage.needs) == (reads, needs)
    assert Distill.model_validate_json(stage.model_dump_json(), strict=True) == stage


def test_no_teacher_where_no_term_asks_one():
    stage = student("null", (SECOND, ""))
    assert stage.teacher is None
    assert stage.needs == ()


def test_a_term_may_ask_one_of_several():
    stage = student("[cnn, big]", ("kind: soft_targets", "kind: soft_targets, teacher: big"))
    assert stage.objective[1] == SoftTargets(teacher="big")


def test_what_is_begun_with_is_read_too():
    stage = student("big", ("    teacher", "    start: cnn@2\n    teacher"))
    assert (stage.reads, stage.needs) == (("big", "cnn@2"), ("big", "cnn"))
    trained = parse_recipe(text_with("cnn", ("name: big", "name: big\n    start: cnn")), files=False).stages[1]
    assert isinstance(trained, Train)
    assert trained.needs == ("cnn",)


@pytest.mark.parametrize(
    ("teacher", "expected"),
    [
        ("cnm", "19: stages.2.teacher: there is no stage 'cnm'; nearest: 'cnn'"),
        ("[cnn, bog]", "19: stages.2.teacher.1: there is no stage 'bog'; nearest: 'big'"),
        ("{cnn: 1, bog: 1}", "19: stages.2.teacher.bog: there is no stage 'bog'; nearest: 'big'"),
        ("cnn@3", "19: stages.2.teacher: there is no 'cnn@3'; the snapshots of 'cnn' are 'cnn@1', 'cnn@2'"),
        ("big@1", "19: stages.2.teacher: stage 'big' leaves no snapshots; a train stage with `snapshots: 1` does"),
        ("{cnn: 1, cnn@4: 1}", "19: stages.2.teacher.cnn@4: there is no 'cnn@4'"),
        ("cnn@last", "19: stages.2.teacher: expected letters, digits, '_', '-' and '.' only (and '@2' at the end"),
        ("{cnn: 0, big: 1}", "19: stages.2.teacher.cnn: expected a number greater than 0, got 0"),
        ("{cnn: -1}", "19: stages.2.teacher.cnn: expected a number greater than 0, got -1"),
        ("{cnn: '2'}", "19: stages.2.teacher.cnn: expected a number, got the text '2'; write 2 without quotes"),
        ("{}", "19: stages.2.teacher: expected at least 1 item, got an empty mapping"),
        ("[]", "19: stages.2.teacher: expected at least 1 item, got a list of 0"),
        ("[cnn, cnn]", "19: stages.2.teacher.1: 'cnn' is named twice; to let it count more, give weights: {cnn: 2}"),
        ("{kind: avrage}", "19: stages.2.teacher.kind: unknown kind 'avrage'; nearest: 'average'"),
        ("{kind: average, decay: 1.0}", "19: stages.2.teacher.decay: expected a number less than 1, got 1.0"),
        ("{kind: average, deacy: 0.5}", "19: stages.2.teacher.deacy: unknown key 'deacy'; nearest: 'decay'"),
        ("5", "19: stages.2.teacher: expected a text, got 5"),
        ("null", "20: stages.2.objective.1: soft_targets needs a teacher and the stage has none"),
    ],
)
def test_each_mistake_about_the_teacher_has_its_line(teacher, expected):
    assert mistake(text_with(teacher)).startswith(f"r.yaml:{expected}")


@pytest.mark.parametrize(
    ("teacher", "change", "expected"),
    [
        ("cnn", (SECOND, ""), "19: stages.2.teacher: no term of the objective asks a teacher"),
        ("cnn", ("    teacher", "    combine: confident\n    teacher"), "19: stages.2.combine: says how several"),
        (
            "[cnn, big]",
            ("kind: soft_targets", "kind: soft_targets, teacher: bigg"),
            "20: stages.2.objective.1.teacher: there is no teacher 'bigg' to choose; expected one of 'cnn', 'big'",
        ),
        (
            "cnn",
            ("kind: soft_targets", "kind: soft_targets, teacher: cnn"),
            "20: stages.2.objective.1.teacher: there is no teacher 'cnn' to choose; there is only one",
        ),
        (
            "cnn",
            ("kind: soft_targets", "kind: soft_targets, student: a"),
            "20: stages.2.objective.1.student: there is only one student",
        ),
        ("cnn", ("snapshots: 2", "snapshots: [0.5, 0.2]"), "9: stages.0.snapshots: expected rising numbers"),
        ("cnn", ("snapshots: 2", "snapshots: [0, 1]"), "9: stages.0.snapshots.0: expected a number greater than 0"),
        ("cnn", ("snapshots: 2", "snapshots: 1.5"), "9: stages.0.snapshots: expected a whole number or a list"),
        ("cnn", ("{epochs: 1,", "{epochs: 1, patience: 3,"), "9: stages.0.snapshots: a training with patience may end"),
        ("cnn", ("name: big", "name: big\n    start: cnm"), "13: stages.1.start: there is no stage 'cnm'"),
        ("cnn", ("name: big", "name: big\n    start: cnn@3"), "13: stages.1.start: there is no 'cnn@3'"),
        (
            "cnn",
            ("name: big", "name: big\n    objective: [{kind: soft_targets}]"),
            "13: stages.1.objective.0: soft_targets needs a teacher and the stage has none",
        ),
    ],
)
def test_each_mistake_about_the_rest_has_its_line(teacher, change, expected):
    assert mistake(text_with(teacher, change)).startswith(f"r.yaml:{expected}")


def test_a_mistake_elsewhere_in_a_stage_hides_none_about_its_teacher():
    text = text_with("{cnn@7: 1, bog: 1}", ("    teacher", "    combine: 3\n    teacher"))
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, name="r.yaml", files=False)
    assert [str(problem).split(": ")[1] for problem in caught.value.problems] == [
        "stages.2.combine",
        "stages.2.teacher.cnn@7",
        "stages.2.teacher.bog",
    ]


def mistake(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, name="r.yaml", files=False)
    (problem,) = caught.value.problems
    return str(problem)


def test_what_is_begun_with_must_be_the_same_network(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text(text_with("cnn", ("    teacher", "    start: cnn@1\n    teacher")))
    assert load_and_join(file).name == "teaching"
    file.write_text(text_with("cnn", ("    teacher", "    start: big\n    teacher")))
    with pytest.raises(
        RecipeError, match=r"19: stages\.2\.start: expected a model of the same network to start from; "
    ):
        load_and_join(file)


def test_layers_of_several_teachers_and_of_the_average_are_joined(tmp_path):
    hint = "kind: hint, student_layer: hidden1, teacher_layer: hidden1"
    file = tmp_path / "r.yaml"
    for teacher, term in (("[cnn, big]", f"{hint}, teacher: big"), ("{kind: average}", hint)):
        file.write_text(text_with(teacher, ("kind: soft_targets", term)))
        assert load_and_join(file).name == "teaching"
        file.write_text(text_with(teacher, ("kind: soft_targets", term.replace("layer: hidden1", "layer: hiden1"))))
        with pytest.raises(RecipeError, match=r"teacher( big)? has no layer 'hiden1'; nearest: 'hidden1'"):
            load_and_join(file)
    file.write_text(text_with("[cnn, big]", ("kind: soft_targets", hint)))
    with pytest.raises(RecipeError, match="an ensemble has no layers of its own"):
        load_and_join(file)
