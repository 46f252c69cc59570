import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from conformance.method_suite import needs_compiler
from conformance.networks import (
    Network,
    compiled_in_place,
    compiled_parameter,
    compiled_steps,
    compiled_too_early,
    distributed_step,
    gradients,
    loss_on_a_parameter,
    objective,
    pair,
    raw_batch,
    single_step,
    step_of,
    wrapped_paths,
)
from conformance.two_processes import TwoProcesses
from understudy import Batch, Classification, Distiller, Hint, InputError, Taps
from understudy.taps import unknown_layer
from understudy.teachers import ModuleTeacher


def close(received: dict, expected: dict, **tolerance: float) -> None:
    assert received.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(received[name], value, msg=lambda m, n=name: f"{n}: {m}", **tolerance)


def test_reads_what_the_layers_gave() -> None:
    network, inputs = Network(), raw_batch()[0]
    taps = Taps(network, ["block.1", "stem", "stem"])
    with taps.reading() as features:
        network(inputs)
    stem = network.stem(inputs)
    assert list(features) == ["block.1", "stem"]
    assert torch.equal(features["stem"], stem)
    assert torch.equal(features["block.1"], network.block[0](stem).tanh())


def test_nothing_is_kept_outside_of_a_reading() -> None:
    network, inputs = nn.Sequential(nn.Linear(4, 3)), raw_batch()[0]
    taps = Taps(network, ["0"])
    output = weakref.ref(network(inputs))
    gc.collect()
    assert output() is None
    with taps.reading() as features:
        network(inputs)
    output = weakref.ref(features.pop("0"))
    gc.collect()
    assert output() is None


def test_an_unknown_layer_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no layer 'block.9'; nearest: 'block\.\d'.*lists all 7"):
        Taps(Network(), ["block.9"])
    layers = ["", *(f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2))]
    assert unknown_layer("layer33", layers, "student").startswith("student has no layer 'layer33'; nearest: 'layer3.")


class Several(nn.Module):
    """Layers that give a tuple, a dict and a nested thing."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 5, batch_first=True)
        self.named = Named()
        self.unused = nn.Linear(4, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        sequence, _ = self.rnn(inputs[:, None])
        return self.named(sequence[:, 0])["first"]


class Named(nn.Module):
    def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"first": inputs[:, :3], "2": inputs[:, 3:]}


def test_one_of_several_tensors_is_taken_by_position_or_name() -> None:
    network, inputs = Several(), raw_batch()[0]
    taps = Taps(network, ["rnn:0", "rnn:1", "named:first", "named:2"])
    with taps.reading() as features:
        network(inputs)
    assert {path: tuple(feature.shape) for path, feature in features.items()} == {
        "rnn:0": (8, 1, 5),
        "rnn:1": (1, 8, 5),
        "named:first": (8, 3),
        "named:2": (8, 2),
    }


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("rnn", r"returns a tuple of 2, expected one tensor.*'rnn:0' or 'rnn:1'"),
        ("named", r"returns dict with keys first, 2, expected.*'named:first' or 'named:2'"),
        ("rnn:2", r"has no '2'.*'rnn:0'"),
        ("rnn:last", r"has no 'last'.*'rnn:0'"),
        ("named:third", r"has no 'third'.*'named:first'"),
        ("unused", r"layer 'unused' did not run.*choose another layer"),
    ],
)
def test_what_cannot_be_read_is_explained(path: str, message: str) -> None:
    network = Several()
    taps = Taps(network, [path])
    with pytest.raises(InputError, match=message), taps.reading():
        network(raw_batch()[0])


def test_a_selector_on_a_layer_that_gives_one_tensor_is_refused() -> None:
    """It would have picked the first sample of the batch."""
    network = Network()
    taps = Taps(network, ["stem:0"])
    with pytest.raises(InputError, match=r"'stem' returns one Tensor; write its path without ':'"), taps.reading():
        network(raw_batch()[0])


def test_an_output_that_is_overwritten_in_place_is_noticed() -> None:
    network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 3))
    taps = Taps(network, ["0"])
    for grad in (True, False):
        with torch.set_grad_enabled(grad), pytest.raises(InputError, match="overwritten in place"), taps.reading():
            network(raw_batch()[0])
    later = Taps(network, ["1"])
    with later.reading() as features:
        network(raw_batch()[0])
    assert (features["1"] >= 0).all()


def test_a_layer_that_runs_twice_is_read_at_its_last_run() -> None:
    layer = nn.Linear(4, 4)
    network, inputs = nn.Sequential(layer, nn.Tanh(), layer), raw_batch()[0]
    taps = Taps(network, ["0"])
    with taps.reading() as features:
        output = network(inputs)
    assert features["0"] is output


def test_a_failed_forward_leaves_nothing_behind() -> None:
    network = Network()
    taps = Taps(network, ["stem"])
    with pytest.raises(RuntimeError, match="shapes"), taps.reading() as features:
        network(torch.zeros(2, 99))
    assert features == {}
    with taps.reading() as features:
        network(raw_batch()[0])
    assert list(features) == ["stem"]


def test_removed_taps_leave_the_model_as_it_was() -> None:
    network = Network()
    taps = Taps(network, ["stem", "block.0"])
    assert network.stem._forward_hooks
    taps.remove()
    assert not any(module._forward_hooks for module in network.modules())


def test_a_path_looks_through_wrappers(two_processes: TwoProcesses) -> None:
    assert two_processes.run(wrapped_paths) == [[["block.0", "head.weight"]] * 3] * 2


# Parameters.


def test_the_path_of_a_parameter_reads_the_parameter_with_its_gradient() -> None:
    network, inputs = Network(), raw_batch()[0]
    taps = Taps(network, ["stem", "head.weight", "stem.bias"])
    with taps.reading() as features:
        network(inputs)
    assert list(features) == ["stem", "head.weight", "stem.bias"]
    features["head.weight"].square().sum().backward()
    torch.testing.assert_close(network.head.weight.grad, 2 * network.head.weight.detach())


def test_what_a_parameter_is_later_is_read_later() -> None:
    network = Network()
    taps = Taps(network, ["head.weight"])
    network.head.weight = nn.Parameter(torch.ones(3, 6))
    with taps.reading() as features:
        network(raw_batch()[0])
    assert features["head.weight"] is network.head.weight


def test_a_teachers_parameter_is_a_constant() -> None:
    teacher = ModuleTeacher(Network(), task=Classification())
    weight = teacher.observe(Batch(raw_batch()[0]), ("head.weight",)).features["head.weight"]
    assert not weight.requires_grad
    assert torch.equal(weight, teacher.module.head.weight)


def test_a_deep_copy_reads_its_own_parameters() -> None:
    student, teacher = pair()
    method = Hint(student_layer="head.weight", teacher_layer="head.weight")
    distiller = Distiller(student, teacher, method, example=raw_batch())
    clone = copy.deepcopy(distiller)
    clone(raw_batch()).loss.backward()
    assert clone.student.head.weight.grad is not None
    assert student.head.weight.grad is None


@pytest.mark.parametrize(
    ("path", "nearest"),
    [("head.wieght", "'head'"), ("haed.weight", "'head.weight'"), ("blok", "'block'"), ("block.0.bias2", "'block.0'")],
)
def test_an_unknown_parameter_is_named_with_the_nearest(path: str, nearest: str) -> None:
    with pytest.raises(InputError, match=rf"model has no layer '{path}'; nearest: .*{nearest}.*lists all 7"):
        Taps(Network(), [path])


def test_unknown_paths_of_both_networks_are_named_at_once() -> None:
    method = Hint(student_layer="head.wheight", teacher_layer="steem.weight")
    with pytest.raises(InputError) as caught:
        Distiller(*pair(), method, example=raw_batch())
    assert [line.split(";")[0] for line in str(caught.value).splitlines()] == [
        "student has no layer 'head.wheight'",
        "teacher has no layer 'steem.weight'",
    ]


def test_a_frozen_parameter_is_no_feature_without_a_gradient() -> None:
    student, teacher = pair()
    student.head.requires_grad_(False)
    method = Hint(student_layer="head.weight", teacher_layer="head.weight")
    Distiller(student, teacher, method, example=raw_batch())(raw_batch()).loss.backward()


def test_two_processes_average_the_gradient_of_a_parameter_that_is_read(two_processes: TwoProcesses) -> None:
    expected = two_processes.alone(loss_on_a_parameter, None)
    for answer in two_processes.run(loss_on_a_parameter):
        close(answer, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.e2e
@needs_compiler
def test_a_parameter_of_a_compiled_student_is_its_own(two_processes: TwoProcesses) -> None:
    expected, received = two_processes.alone(compiled_parameter)
    close(received, expected, rtol=1e-4, atol=1e-5)


# What training frameworks do to a model.


@pytest.mark.e2e
@needs_compiler
def test_compiled_equals_eager_without_a_storm_of_recompilations(two_processes: TwoProcesses) -> None:
    answer = two_processes.alone(compiled_steps)
    close(answer["received"], answer["expected"], rtol=1e-4, atol=1e-5)
    assert "block" in answer["received"]
    assert answer["frames"][0] == 1, "the first step is one graph, without a break at the hook"
    assert answer["final_frames"] <= 3, f"frames compiled after each step: {answer['frames']}"
    assert answer["final_frames"] == answer["frames"][2], "compiled again after the third step"


@needs_compiler
def test_a_model_compiled_in_place_after_the_hand_over_equals_eager(two_processes: TwoProcesses) -> None:
    expected, received = two_processes.alone(compiled_in_place)
    close(received, expected, rtol=1e-4, atol=1e-5)


@needs_compiler
def test_a_model_compiled_and_run_too_early_gets_a_clear_error(two_processes: TwoProcesses) -> None:
    message = two_processes.alone(compiled_too_early)
    assert "'block' did not run" in message
    assert "hand it over first, then call torch.compile" in message


@pytest.mark.parametrize("layer", ["block", "block.0", "block.1"])
def test_recomputed_activations_change_nothing(layer: str) -> None:
    """Checkpointing with use_reentrant=False: equal features and equal gradients, also for layers inside."""
    answers = []
    for checkpointed in ("no", "recomputed"):
        student, teacher = pair(checkpointed=checkpointed)
        torch.manual_seed(3)
        distiller = Distiller(student, teacher, objective(layer), example=raw_batch())
        answers.append([step_of(distiller, raw_batch()) for _ in range(2)][-1])
    close(answers[1], answers[0], rtol=0.0, atol=0.0)
    assert answers[0]["student.block.0.weight"].abs().sum() > 0


def test_a_reentrant_checkpoint_is_refused_because_its_layers_would_learn_nothing() -> None:
    student, teacher = pair(checkpointed="reentrant")
    distiller = Distiller(student, teacher, objective("block.0"), example=raw_batch())  # not active in eval mode
    with pytest.raises(InputError, match=r"'block.0'.*without a gradient.*use_reentrant=False"):
        distiller(raw_batch())


def test_two_processes_equal_one_in_the_student_and_in_the_adapter(two_processes: TwoProcesses) -> None:
    expected = single_step()
    assert "objective.terms.hint.joined.0.adapter.weight" in expected
    for answer in two_processes.run(distributed_step):
        close(answer, expected, rtol=1e-10, atol=1e-12)


def test_a_deep_copy_reads_its_own_layers() -> None:
    student, teacher = pair()
    distiller = Distiller(student, teacher, objective(), example=raw_batch())
    clone = copy.deepcopy(distiller)
    expected = step_of(distiller, raw_batch())
    close(step_of(clone, raw_batch()), expected, rtol=0.0, atol=0.0)
    with torch.no_grad():
        for parameter in clone.parameters():
            parameter.mul_(2.0)
    assert step_of(clone, raw_batch())["loss"] != expected["loss"]
    close(step_of(distiller, raw_batch()), expected, rtol=0.0, atol=0.0)
    average = copy.deepcopy(student)
    average(raw_batch()[0]).sum().backward()
    close(step_of(distiller, raw_batch()), expected, rtol=0.0, atol=0.0)


def test_two_distillers_share_a_student_without_noticing() -> None:
    student, teacher = pair()
    both = [
        Distiller(student, teacher, Hint(student_layer=layer, teacher_layer=layer), example=raw_batch())
        for layer in ("block", "stem")
    ]
    steps = [distiller(raw_batch()) for distiller in both]
    assert [list(step.student.features) for step in steps] == [["block"], ["stem"]]
    assert [list(step.teacher.features) for step in steps] == [["block"], ["stem"]]
    torch.stack([step.loss for step in steps]).sum().backward()
    assert gradients(student)["stem.weight"].abs().sum() > 0
