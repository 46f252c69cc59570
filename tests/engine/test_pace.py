"""Parts at a pace of their own: what is frozen moves in no bit, the rest as a loop by hand would move it."""

import copy

import pytest
import torch
from torch import nn

from conformance.interrupting import Interrupt
from understudy import Classification, CrossEntropy, Distiller, Hint
from understudy.batch import Batch
from understudy.engine import Optimizer, Pace, SilentProgress, Training, fit
from understudy.engine.pace import Pacer
from understudy.errors import InputError
from understudy.schedules import Cosine

SILENT = SilentProgress()
ADAM = Optimizer(kind="adamw", lr=0.01, weight_decay=0.1)


def convolutional() -> nn.Module:
    """Three layers with statistics between them."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 8, 3),
        nn.BatchNorm2d(8, affine=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def trained(network, batches, pace, *, training=None, **options):
    training = training or Training(epochs=1, optimizer=ADAM, execution="plain")
    distiller = Distiller(network, None, CrossEntropy(), example=batches[0], task=Classification())
    fit(distiller, batches, training, pace=pace, progress=SILENT, **options)
    return network.state_dict()


class Watch:
    """Keeps what the optimizer could have changed after each step, and which parameters took gradients."""

    def __init__(self) -> None:
        self.states, self.free = [], []

    def stepped(self, moment) -> None:
        student = moment.distiller.student
        self.states.append({name: tensor.clone() for name, tensor in student.state_dict().items()})
        self.free.append({name for name, each in student.named_parameters() if each.requires_grad})

    def recorded(self, moment, record) -> None: ...


def test_what_is_frozen_is_the_same_in_every_bit_and_the_rest_moves(batches) -> None:
    network = convolutional()
    before = copy.deepcopy(network.state_dict())
    after = trained(network, batches, Pace({"1.weight": 0, "1.bias": 0, "2.weight": 0, "2.bias": 0}))
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if name[0] in "12"}
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_optimizer_knows_nothing_of_what_is_frozen(batches, tmp_path) -> None:
    from understudy.engine.checkpoints import Checkpoints

    with pytest.raises(KeyboardInterrupt):
        trained(
            convolutional(),
            batches,
            Pace({"1.weight": 0, "1.bias": 0}),
            training=Training(epochs=1, optimizer=ADAM, execution="plain", checkpoint_every=2),
            directory=tmp_path,
            callbacks=[Interrupt(3)],
        )
    saved = Checkpoints(tmp_path / "checkpoints").load(print)
    assert saved is not None
    moments = [name for name in saved.tensors if name.startswith("optimizer.") and name.endswith("exp_avg")]
    assert len(moments) == 6  # of eight parameters


def test_rates_are_multiplied_as_a_loop_by_hand_would_do_it(network, batches) -> None:
    student = network()
    twin = copy.deepcopy(student)
    sgd = Optimizer(lr=0.1, options={"momentum": 0.9})
    training = Training(epochs=2, optimizer=sgd, schedule=Cosine(), execution="plain")
    trained(student, batches, Pace({"0.weight": 0.25, "0.bias": 0.25}), training=training)

    groups = [{"params": twin[3].parameters()}, {"params": twin[0].parameters(), "lr": 0.025}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    for step, batch in enumerate([*batches, *batches]):
        for group, rate in zip(optimizer.param_groups, (0.1, 0.025), strict=True):
            group["lr"] = rate * Cosine().at(step / 16)
        optimizer.zero_grad()
        nn.functional.cross_entropy(twin(batch.inputs), batch.targets).backward()
        optimizer.step()
    for name, tensor in twin.state_dict().items():
        torch.testing.assert_close(student.state_dict()[name], tensor)


def test_the_first_group_is_the_fastest_whose_rate_is_told(network, batches) -> None:
    distiller = Distiller(network(), None, CrossEntropy(), example=batches[0])
    pace = Pace({name: 0.01 for name, _ in distiller.student.named_parameters() if name.startswith("0")})
    fitted = fit(
        distiller, batches, Training(epochs=1, optimizer=Optimizer(lr=0.5)), val=batches, pace=pace, progress=SILENT
    )
    assert fitted.history[-1]["lr"] == 0.5


def test_parts_begin_when_their_time_has_come(batches) -> None:
    network, watch = convolutional(), Watch()
    before = copy.deepcopy(network.state_dict())
    pace = Pace(begins={"1.weight": 0.5, "1.bias": 0.5, "2.weight": 0.5, "2.bias": 0.5, "4.weight": 0.25, "4.bias": 0})
    trained(network, batches, pace, callbacks=[watch])  # eight steps

    def still(step: int) -> set[str]:
        return {name for name, tensor in watch.states[step].items() if torch.equal(tensor, before[name])}

    first = {name for name in before if name[0] in "12"}
    assert still(0) == still(1) == {*first, "4.weight"}
    assert still(2) == still(3) == first
    assert still(4) == set()
    assert "4.weight" not in watch.free[1]
    assert "4.weight" in watch.free[2]


def test_among_several_processes_gradients_are_computed_and_thrown_away(network, batches) -> None:
    student = network()
    pacer = Pacer(Pace(begins={"0.weight": 0.5}), student, all_gradients=True)
    student(batches[0].inputs).sum().backward()
    pacer.change_gradients()
    assert student[0].weight.grad is None
    assert student[0].bias.grad is not None
    pacer.at(0.5)
    assert not pacer.changes_gradients


def test_a_layer_may_be_compared_before_it_trains(batches) -> None:
    """A term on a layer that waits changes nothing until then, and is no mistake."""
    student = convolutional()
    before = copy.deepcopy(student.state_dict())
    objective = CrossEntropy() + Hint(student_layer="2", teacher_layer="2")
    distiller = Distiller(student, convolutional(), objective, example=batches[0])
    waiting = {name for name in before if name.startswith(("1.", "2."))}
    watch = Watch()
    pace = Pace(begins={name: 0.5 for name, _ in student.named_parameters() if name in waiting})
    fit(
        distiller,
        batches,
        Training(epochs=1, optimizer=ADAM, execution="plain"),
        pace=pace,
        progress=SILENT,
        callbacks=[watch],
    )
    moved = [{name for name in pace.begins if not torch.equal(state[name], before[name])} for state in watch.states]
    assert moved[:4] == [set()] * 4
    assert moved[4] == pace.begins.keys()


def test_weights_are_pulled_towards_where_they_were(network, batches) -> None:
    student = network()
    twin, start = copy.deepcopy(student), copy.deepcopy(student)
    anchors = {name: each.detach().clone() for name, each in start.named_parameters() if name.startswith("0")}
    training = Training(epochs=1, optimizer=Optimizer(lr=0.1), execution="plain", clip_norm=0.5)
    trained(student, batches, Pace(anchors=anchors, pull=0.3), training=training)

    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    for batch in batches:
        optimizer.zero_grad()
        away = sum((each - anchors[name]).square().sum() for name, each in twin.named_parameters() if name in anchors)
        (nn.functional.cross_entropy(twin(batch.inputs), batch.targets) + 0.15 * away).backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        optimizer.step()
    for name, tensor in twin.state_dict().items():
        torch.testing.assert_close(student.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("policy", "moving"),
    [("trained", {"5.running_mean"}), ("all", {"2.running_mean", "5.running_mean"}), ("none", set())],
)
def test_whose_statistics_move_is_said(batches, policy, moving) -> None:
    network = convolutional()
    before = copy.deepcopy(network.state_dict())
    frozen = {f"{layer}.{kind}": 0.0 for layer in (1, 2) for kind in ("weight", "bias")}
    after = trained(network, batches, Pace(frozen, batch_norms=policy), val=batches)
    moved = {name for name in before if "running_mean" in name and not torch.equal(before[name], after[name])}
    assert moved == moving


def test_a_resumed_training_ends_where_an_undisturbed_one_does(batches, tmp_path) -> None:
    def pace() -> Pace:
        anchors = {name: each.detach().clone() for name, each in convolutional().named_parameters()}
        return Pace({"8.weight": 2.0}, {"1.weight": 0.4, "4.weight": 0.7}, anchors, 0.01)

    training = Training(epochs=1, optimizer=ADAM, execution="plain", checkpoint_every=2)
    whole = trained(convolutional(), batches, pace(), training=training)
    with pytest.raises(KeyboardInterrupt):
        trained(convolutional(), batches, pace(), training=training, directory=tmp_path, callbacks=[Interrupt(5)])
    with pytest.raises(InputError, match=r"pace\.pull was 0\.01, is 0\.5 now"):
        trained(
            convolutional(),
            batches,
            Pace(pace().factors, pace().begins, pace().anchors, 0.5),
            training=training,
            directory=tmp_path,
        )
    resumed = trained(convolutional(), batches, pace(), training=training, directory=tmp_path)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_an_average_keeps_what_is_frozen(batches) -> None:
    network = convolutional()
    before = copy.deepcopy(network.state_dict())
    training = Training(epochs=1, optimizer=ADAM, execution="plain", ema=0.9)
    after = trained(network, batches, Pace({"1.weight": 0.0}), training=training)
    assert torch.equal(before["1.weight"], after["1.weight"])


@pytest.mark.parametrize(
    ("pace", "message"),
    [
        (Pace({"9.weight": 0.5}), "no parameter '9.weight'"),
        (Pace(anchors={"1.weight": torch.zeros(3)}, pull=1.0), "another shape for '1.weight'"),
        (Pace(dict.fromkeys(dict(convolutional().named_parameters()), 0.0)), "nothing to train"),
    ],
)
def test_a_pace_of_another_network_is_refused_before_anything_trains(batches, pace, message) -> None:
    network = convolutional()
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(InputError, match=message):
        trained(network, batches, pace)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    "given", [{"factors": {"a": -1.0}}, {"factors": {"a": float("nan")}}, {"begins": {"a": 1.0}}, {"pull": -0.1}]
)
def test_numbers_that_mean_nothing_are_refused(given) -> None:
    with pytest.raises(InputError, match="expected"):
        Pace(**given)


def test_samples_reach_a_network_whose_first_part_is_frozen(batches) -> None:
    """The gradient ends where the free part begins, and no earlier."""
    network, watch = convolutional(), Watch()
    names = [name for name, _ in network.named_parameters() if not name.startswith("8")]
    trained(network, [Batch(batches[0].inputs, batches[0].targets)], Pace(dict.fromkeys(names, 0.0)), callbacks=[watch])
    assert watch.free[0] == {"8.weight", "8.bias"}
