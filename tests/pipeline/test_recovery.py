"""Compressing a model of a run step by step, with and without training after each step."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from understudy import Classification, CrossEntropy, InputError, Optimizer, SoftTargets, Training
from understudy.edits import AnyEdit, Resized
from understudy.engine import SilentProgress
from understudy.engine.process import process
from understudy.pipeline.directory import RunDirectory
from understudy.pipeline.recovery import Recovery, Step, compress
from understudy.pipeline.stage import Context
from understudy.pipeline.stages import Train
from understudy.sources import BuiltinModel, DataSpec, load_artifact, load_data

UNITS = 12
TASK = Classification()
LONG, SHORT = (Training(epochs=epochs, batch_size=64, optimizer=Optimizer(kind="adam", lr=0.01)) for epochs in (4, 1))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[RunDirectory, Context]:
    """A run whose first stage has trained a perceptron."""
    directory = RunDirectory(tmp_path_factory.mktemp("run"))
    stage = Train(name="big", model=BuiltinModel(name="mlp", arguments={"hidden": [UNITS]}), training=LONG)
    context = Context(
        task=TASK,
        data=load_data(DataSpec(source="sklearn/digits"), task=TASK),
        seed=0,
        first=True,
        directory=directory.stage("big", 0),
        upstream={},
        process=process(),
        progress=SilentProgress(),
        trackers=(),
    )
    stage.run(context)
    return directory, context


@pytest.fixture
def context(run, request) -> Context:
    directory, first = run
    name = request.node.name.translate(str.maketrans("[]", "--"))
    return Context(
        **{
            field: getattr(first, field)
            for field in ("task", "data", "seed", "first", "process", "progress", "trackers")
        },
        directory=directory.stage(name, 0),
        upstream={"big": first.directory},
    )


class Halving:
    """Steps that keep so many of the hidden units, and the networks that each was given."""

    def __init__(self, *units: int) -> None:
        self.given: list[nn.Module] = []
        self.steps: tuple[Step, ...] = tuple(self._keeping(count) for count in units)

    def _keeping(self, count: int) -> Step:
        def step(network: nn.Module) -> tuple[nn.Module, tuple[AnyEdit, ...]]:
            self.given.append(network)
            smaller = copy.deepcopy(network)
            hidden, head = smaller.get_submodule("hidden1"), smaller.get_submodule("head")
            assert isinstance(hidden, nn.Linear)
            assert isinstance(head, nn.Linear)
            hidden.weight, hidden.bias = nn.Parameter(hidden.weight[:count]), nn.Parameter(hidden.bias[:count])
            head.weight = nn.Parameter(head.weight[:, :count])
            hidden.out_features = head.in_features = count
            return smaller, (Resized.between(self.given[0], smaller),)

        return step


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_artifact(folder).module.state_dict()


def test_without_recovery_what_the_steps_have_left_is_kept(context) -> None:
    record = compress(context, "big", Halving(8, 4).steps, None)
    assert record["models"] == {"model": "."}
    left, before = weights(context.directory.path), weights(context.upstream["big"].path)
    assert left["hidden1.weight"].shape == (4, 64)
    torch.testing.assert_close(left["hidden1.weight"], before["hidden1.weight"][:4], rtol=0, atol=0)


def test_it_is_trained_beside_a_control_that_begins_alike(context) -> None:
    record = compress(context, "big", Halving(6).steps, Recovery(training=SHORT))
    assert (record["models"], record["teacher"]) == ({"student": ".", "control": "control"}, ["big"])
    student, control = weights(context.directory.path), weights(context.directory.path / "control")
    assert student["hidden1.weight"].shape == control["hidden1.weight"].shape == (6, 64)
    assert not torch.equal(student["hidden1.weight"], control["hidden1.weight"])
    assert record["training"]["steps"] == record["control"]["steps"]
    assert record["training"]["best_metric"] > 0.5


def test_each_step_begins_with_what_the_one_before_has_left_trained(context) -> None:
    halving = Halving(8, 4)
    recovery = Recovery(training=LONG, between=SHORT, control=False)
    record = compress(context, "big", halving.steps, recovery)
    first, second = halving.given
    trained = weights(context.directory.path / "step-1")
    torch.testing.assert_close(second.state_dict(), trained, rtol=0, atol=0)
    assert not torch.equal(second.state_dict()["hidden1.weight"], first.state_dict()["hidden1.weight"][:8])
    assert record["training"]["steps"] == 4 * 21
    left = load_artifact(context.directory.path)
    assert left.module.get_submodule("hidden1").out_features == 4
    assert "control" not in record["models"]


def test_the_control_walks_the_same_steps_alone(context) -> None:
    halving = Halving(8, 4)
    compress(context, "big", halving.steps, Recovery(training=SHORT))
    of_control, of_student = weights(context.directory.path / "step-1" / "control"), halving.given[3].state_dict()
    torch.testing.assert_close(halving.given[1].state_dict(), of_control, rtol=0, atol=0)
    assert not torch.equal(of_control["hidden1.weight"], of_student["hidden1.weight"])


def test_without_terms_that_distil_there_is_no_teacher_and_nothing_to_compare_with(context) -> None:
    record = compress(context, "big", Halving(6).steps, Recovery(objective=(CrossEntropy(),), training=SHORT))
    assert (record["models"], record["teacher"]) == ({"student": "."}, [])


def test_what_was_trained_is_not_trained_again(context) -> None:
    recovery = Recovery(training=SHORT)
    first = compress(context, "big", Halving(6).steps, recovery)
    stamp = (context.directory.path / "model.safetensors").stat().st_mtime_ns
    assert compress(context, "big", Halving(6).steps, recovery) == first
    assert (context.directory.path / "model.safetensors").stat().st_mtime_ns == stamp


def test_a_step_that_cannot_be_done_says_so_and_leaves_no_model(context) -> None:
    def never(_: nn.Module) -> tuple[nn.Module, tuple[AnyEdit, ...]]:
        raise InputError("layer 'hidden1' cannot be made smaller")

    with pytest.raises(InputError, match="'hidden1' cannot be made smaller"):
        compress(context, "big", [never], Recovery(training=SHORT))
    assert not (context.directory.path / "model.json").exists()


def test_a_term_for_a_teacher_that_is_not_there_is_refused_by_its_key() -> None:
    with pytest.raises(ValueError, match=r"objective\.0\.teacher: there is no teacher 'other'"):
        Recovery(teacher="big", objective=(SoftTargets(teacher="other"),), training=SHORT)
