"""The teacher must stay as it is, apart from the student, and answer for the samples it is asked about."""

import copy

import pytest
import torch
from torch import nn

import understudy as us
from doctor.setting import OBJECTIVE, TASK, found, mlp
from understudy.batch import Batch
from understudy.doctor import TeacherWatch, diagnose
from understudy.teachers import Ensemble, ModuleTeacher


class Careless:
    """A user's own teacher that simply calls its network."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> us.Knowledge:
        return us.Knowledge(logits=self.network(batch.inputs))


class InTurn:
    """Answers recorded in one order and handed out in turn, whatever is asked."""

    def __init__(self, answers: list[torch.Tensor]) -> None:
        self.answers, self.turn = answers, 0

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> us.Knowledge:
        self.turn += 1
        return us.Knowledge(logits=self.answers[self.turn % len(self.answers)][: len(batch)])


class ByPosition:
    """Answers looked up by row, not by sample."""

    def __init__(self, answers: torch.Tensor) -> None:
        self.answers = answers

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> us.Knowledge:
        return us.Knowledge(logits=self.answers[: len(batch)])


def frozen(findings: list) -> set[str]:
    assert all(each.severity == "error" for each in findings)
    return {each.message.split(";")[0] for each in findings if each.check == "teacher_frozen"}


def test_a_teacher_in_train_mode(digits, distill, teacher):
    findings = diagnose(distill(mlp(16), Careless(teacher.train())), digits.loader())
    assert frozen(findings) == {
        "the teacher runs in train mode",
        "the loss would send gradients into the teacher",
    }


def test_one_layer_of_the_teacher_in_train_mode(digits, distiller, teacher):
    teacher[2].train()  # batch normalisation; the network itself says eval
    finding = found(diagnose(distiller, digits.loader()), "teacher_frozen")
    assert "'2'" in finding.seen


def test_gradients_into_the_teacher(digits, distill, teacher):
    finding = found(diagnose(distill(mlp(16), Careless(teacher.eval())), digits.loader()), "teacher_frozen")
    assert "requires_grad is set on its 'logits'" in finding.seen


def test_a_network_hidden_in_an_ensemble_is_seen(digits, distill, teacher):
    members = Ensemble([ModuleTeacher(copy.deepcopy(teacher), task=TASK), ModuleTeacher(teacher, task=TASK)])
    distiller = distill(mlp(16), members)
    teacher[2].train()
    assert frozen(diagnose(distiller, digits.loader())) == {"the teacher runs in train mode"}


def test_teacher_and_student_are_the_same(digits, distill, trained):
    network = copy.deepcopy(trained)
    finding = found(diagnose(distill(network, Careless(network)), digits.loader()), "teacher_shares_weights")
    assert finding.severity == "error"


def test_tied_layers(digits, distill, teacher):
    student = mlp(128, 128)
    student[4].weight.data = teacher[5].weight.data  # one memory, two parameters: no identity gives it away
    finding = found(diagnose(distill(student, teacher), digits.loader()), "teacher_shares_weights")
    assert "'4.weight'" in finding.seen


@pytest.mark.parametrize("mode", [False, True])
def test_shared_batch_statistics(digits, distill, teacher, mode):
    student = mlp(128, norm=True)
    student[2] = teacher[2].requires_grad_(False)  # frozen, but it goes on counting in train mode
    distiller = distill(student, teacher)
    student[2].train(mode)
    before = teacher[2].running_mean.clone()
    finding = found(diagnose(distiller, digits.loader()), "teacher_shares_weights")
    assert finding.severity == "error"
    assert "'2.running_mean'" in finding.seen
    assert torch.equal(before, teacher[2].running_mean)


class Normalised(nn.Module):
    """Keeps statistics of its own, in a buffer that it may share."""

    def __init__(self, network: nn.Module, mean: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean.lerp_(inputs.mean(), 0.1)
        return self.network(inputs - self.mean)


def test_a_shared_buffer_of_ones_own_layer(digits, distill, teacher):
    mean = torch.tensor(0.0)
    distiller = distill(Normalised(mlp(16), mean), Normalised(teacher, mean).eval())
    finding = found(diagnose(distiller, digits.loader()), "teacher_shares_weights")
    assert "'teacher.mean'" in finding.seen
    assert float(mean) == 0.0


def test_an_answer_that_changes_from_call_to_call(digits, distill, teacher):
    with torch.no_grad():
        answers = [copy.deepcopy(teacher).eval()(batch.inputs) for batch in digits.loader()]
    findings = diagnose(distill(mlp(16), InTurn(answers)), digits.loader()[:2])
    assert found(findings, "teacher_answers").severity == "error"


def test_answers_by_position(digits, distill, teacher):
    with torch.no_grad():
        answers = copy.deepcopy(teacher).eval()(digits.loader()[0].inputs)
    findings = diagnose(distill(mlp(16), ByPosition(answers)), digits.loader()[:1])
    assert found(findings, "same_samples").severity == "error"


def test_the_watch_sees_a_weight(teacher, distiller):
    watch = TeacherWatch(distiller)
    watch.check()
    with torch.no_grad():
        teacher[5].weight[3, 4] += 1e-6
    assert watch.changed() == ["teacher.5.weight"]
    with pytest.raises(us.RunError, match=r"the teacher changed during the run: 'teacher\.5\.weight'"):
        watch.check()


def test_the_watch_sees_batch_statistics(digits, teacher):
    careless = Careless(teacher)
    watch = TeacherWatch(careless)
    teacher.train()
    careless.observe(digits.loader()[0])
    assert "network.2.running_mean" in watch.changed()


def test_the_watch_is_calm_after_a_healthy_training(digits, distiller):
    watch = TeacherWatch(distiller)
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1)
    distiller.train()
    for batch in digits.loader():
        optimizer.zero_grad()
        distiller(batch).loss.backward()
        optimizer.step()
    watch.check()


def test_the_watch_reads_every_type_and_layout(teacher):
    network = nn.Conv2d(3, 4, 3).to(torch.bfloat16)
    watch = TeacherWatch(ModuleTeacher(network, task=TASK))
    network.to(memory_format=torch.channels_last)  # other strides, same weights
    assert watch.changed() == []
    with torch.no_grad():
        network.bias[0] += 1.0
    assert watch.changed() == ["teacher.bias"]


def test_the_watch_has_nothing_to_see_in_a_recording():
    TeacherWatch(ByPosition(torch.zeros(3, 10))).check()
    TeacherWatch(None).check()


def test_a_healthy_teacher_of_ones_own(digits, distill, teacher):
    class Careful(Careless):
        def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> us.Knowledge:
            with torch.no_grad():
                return super().observe(batch, taps)

    assert diagnose(distill(mlp(16), Careful(teacher.eval()), OBJECTIVE), digits.loader()) == []
