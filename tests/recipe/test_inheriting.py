"""A training like a teacher's: what is taken over, what is scaled, what is said when there is nothing to take."""

import pytest

from understudy import Optimizer
from understudy.engine import SilentProgress
from understudy.errors import InputError
from understudy.pipeline.run import run
from understudy.recipe.loading import load_recipe, parse_recipe

RECIPE = """
version: 1
name: like
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: teacher
    model: {source: understudy, name: mlp, arguments: {hidden: [8]}}
    views: {shift: 1}
    training: {epochs: 1, batch_size: 100, optimizer: {kind: KIND, lr: 0.01, weight_decay: 0.1}, warmup: 0.1}
  - kind: distill
    name: student
    teacher: teacher
    model: {source: understudy, name: mlp, arguments: {hidden: [4]}}
    objective: [{kind: soft_targets}]
    views: {like: teacher}
    training: TRAINING
"""


def read(training: str, kind: str = "adamw", text: str = RECIPE):
    return parse_recipe(text.replace("KIND", kind).replace("TRAINING", training))


def test_everything_is_taken_over() -> None:
    teacher, student = read("{like: teacher}").stages
    assert student.training == teacher.training
    assert student.views == teacher.views


@pytest.mark.parametrize(("kind", "rate"), [("sgd", 0.04), ("adamw", 0.02), ("rmsprop", 0.02)])
def test_the_rate_is_scaled_with_the_batch(kind, rate) -> None:
    student = read("{like: teacher, batch_size: 400}", kind).stages[1].training
    assert (student.batch_size, student.optimizer.lr, student.optimizer.weight_decay) == (400, rate, 0.1)


def test_what_is_given_replaces_what_was_there() -> None:
    student = read("{like: teacher, batch_size: 400, optimizer: {lr: 0.5}}").stages[1].training
    assert (student.optimizer.lr, student.optimizer.kind, student.optimizer.weight_decay) == (0.5, "adamw", 0.1)
    student = read("{like: teacher, steps: 7, warmup: 0.0}").stages[1].training
    assert (student.steps, student.epochs, student.warmup) == (7, None, 0.0)
    student = read("{like: teacher, batch_size: 400, optimizer: {kind: sgd, lr: 1.0}}").stages[1].training
    assert student.optimizer == Optimizer(kind="sgd", lr=1.0)


def test_recoveries_take_over_too_and_chains_end_where_they_began() -> None:
    more = """  - kind: prune
    name: slim
    model: student
    target: {macs: 0.5}
    recovery: {training: {like: student, epochs: 3}}
"""
    *_, student, slim = read("{like: teacher, batch_size: 50}", text=RECIPE + more).stages
    assert slim.recovery.training == student.training.model_copy(update={"epochs": 3.0})


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (
            "{like: techer}",
            r"stages\.1\.training: like: expected an earlier stage with training, got 'techer'; nearest: 'teacher'",
        ),
        ("{like: student}", "got 'student'"),
        ("{like: teacher, epoch: 3}", "epoch"),
    ],
)
def test_what_cannot_be_taken_over_is_said_with_its_line(training, message) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(training)
    assert "recipe:18" in str(caught.value)


def test_a_saved_model_says_how_it_was_trained(tmp_path) -> None:
    text = RECIPE.replace("KIND", "adam").replace("weight_decay: 0.1", "weight_decay: 0.0")
    (tmp_path / "first.yaml").write_text(text.partition("  - kind: distill")[0])
    run(load_recipe(tmp_path / "first.yaml"), tmp_path / "run", progress=SilentProgress())
    loaded = f"""  - kind: load
    name: teacher
    model: {{source: artifact, path: {tmp_path}/run/stages/teacher/seed-0}}
"""
    head, _, tail = text.partition("  - kind: train")
    second = head + loaded + "  - kind: distill" + tail.partition("  - kind: distill")[2]
    student = read("{like: teacher, batch_size: 25}", text=second).stages[1]
    assert (student.training.optimizer.lr, student.training.epochs, student.views.shift) == (0.005, 1.0, 1)
