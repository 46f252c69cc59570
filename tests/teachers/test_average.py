"""The moving average of the student: against the paper's recursion, in every way that weights can change."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from understudy import (
    AverageTeacher,
    Batch,
    Classification,
    CrossEntropy,
    Distiller,
    Ensemble,
    Hint,
    InputError,
    ModuleTeacher,
    SoftTargets,
    Teacher,
)
from understudy.doctor import TeacherWatch, check_teacher, diagnose
from understudy.teachers import stateful_teachers

TASK = Classification()
DECAY = 0.75  # the warm-up ends at the third step


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 3))


def batch() -> Batch:
    return Batch(inputs=torch.randn(8, 4), targets=torch.arange(8) % 3)


def expected(history: list[dict[str, torch.Tensor]], name: str) -> torch.Tensor:
    """The paper's recursion, number by number, in float64."""
    average = history[0][name].double().flatten().tolist()
    for step, weights in enumerate(history[1:], start=1):
        alpha = min(1 - 1 / (step + 1), DECAY)
        for index, weight in enumerate(weights[name].double().flatten().tolist()):
            average[index] = alpha * average[index] + (1 - alpha) * weight
    return torch.tensor(average).reshape(history[0][name].shape)


def weights_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(module.state_dict())


def train(student: nn.Module, teacher: Teacher, optimizer: torch.optim.Optimizer, steps: int, step=None) -> list:
    history = [weights_of(student)]
    for _ in range(steps):
        samples = batch()
        teacher.observe(samples)
        optimizer.zero_grad()
        nn.functional.cross_entropy(student(samples.inputs), samples.targets).backward()
        (step or optimizer.step)()
        history.append(weights_of(student))
    return history


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("SGD", {"foreach": False}),
        ("SGD", {"fused": True}),
        ("Adam", {"foreach": True}),
        ("AdamW", {"fused": True}),
    ],
)
def test_it_is_the_average_that_the_paper_defines_whatever_steps(kind: str, options: dict) -> None:
    student = network()
    teacher = AverageTeacher(student, decay=DECAY, task=TASK)
    assert isinstance(teacher, Teacher)
    history = train(student, teacher, getattr(torch.optim, kind)(student.parameters(), lr=0.1, **options), 6)
    samples = batch()
    for _ in range(3):  # asking again is no step
        answer = teacher.observe(samples)
    assert teacher.steps == 6
    for name, parameter in teacher.module.named_parameters():
        torch.testing.assert_close(parameter, expected(history, name).float(), atol=1e-6, rtol=1e-6)
    buffers = dict(student.named_buffers())
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in teacher.module.named_buffers())
    assert torch.equal(answer.logits, teacher.module.eval()(samples.inputs))
    assert not answer.logits.requires_grad
    assert student.training
    assert not teacher.module.training


def test_until_the_decay_is_reached_it_is_the_plain_mean() -> None:
    student = network()
    teacher = AverageTeacher(student, decay=0.999, task=TASK)
    history = train(student, teacher, torch.optim.SGD(student.parameters(), lr=0.1), 9)
    teacher.observe(batch())
    mean = torch.stack([weights["0.weight"] for weights in history]).mean(0)
    torch.testing.assert_close(teacher.module[0].weight.detach(), mean)


def test_a_step_by_hand_counts_and_what_is_no_step_does_not() -> None:
    student = network()
    teacher = AverageTeacher(student, decay=DECAY, task=TASK)
    other = nn.Linear(2, 2)
    other(torch.ones(1, 2)).sum().backward()
    torch.optim.SGD(other.parameters(), lr=0.1).step()  # somebody else's
    student.to(torch.float32).to(memory_format=torch.channels_last)
    student(batch().inputs).sum().backward()  # accumulates a gradient, moves the batch statistics
    teacher.observe(batch())
    assert teacher.steps == 0
    with torch.no_grad():
        student[0].weight += 1.0
    teacher.observe(batch())
    assert teacher.steps == 1
    student[0].weight.data.add_(1.0)  # leaves no trace
    teacher.observe(batch())
    assert teacher.steps == 1
    teacher.take_up()
    assert teacher.steps == 2


def test_a_step_that_the_scaler_skips_is_none() -> None:
    student = network()
    teacher = AverageTeacher(student, decay=DECAY, task=TASK)
    optimizer, scaler = torch.optim.SGD(student.parameters(), lr=0.1), torch.amp.GradScaler("cpu")
    for scale, steps in ((float("inf"), 0), (1.0, 1)):
        optimizer.zero_grad()
        scaler.scale(scale * student(batch().inputs).square().sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        teacher.observe(batch())
        assert teacher.steps == steps


def test_frozen_weights_follow_and_stay() -> None:
    student = network()
    student[0].requires_grad_(requires_grad=False)
    teacher = AverageTeacher(student, decay=DECAY, task=TASK)
    history = train(student, teacher, torch.optim.SGD(student[3].parameters(), lr=0.1), 3)
    teacher.observe(batch())
    assert torch.equal(teacher.module[0].weight, student[0].weight)
    torch.testing.assert_close(teacher.module[3].bias.detach(), expected(history, "3.bias").float())
    assert not any(parameter.requires_grad for parameter in teacher.module.parameters())


def test_its_state_goes_on_where_it_was() -> None:
    student = network()
    teacher = AverageTeacher(student, decay=DECAY, task=TASK)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    train(student, teacher, optimizer, 2)  # the second step has not been taken up yet
    kept = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    weights = weights_of(student)
    twin = network()
    again = AverageTeacher(twin, decay=DECAY, task=TASK)
    twin.load_state_dict(weights)
    again.load_state_dict(kept)
    for one, whose in ((student, teacher), (twin, again)):
        torch.manual_seed(5)
        train(one, whose, torch.optim.SGD(one.parameters(), lr=0.1), 3)
    assert teacher.state_dict()["steps"] == again.state_dict()["steps"] == 5
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in teacher.state_dict().items())
    with pytest.raises(InputError, match=r"decay 0\.75, expected 0\.5"):
        AverageTeacher(student, decay=0.5, task=TASK).load_state_dict(kept)
    with pytest.raises(InputError, match=r"another network; not the same in both: .0\.bias"):
        AverageTeacher(nn.Linear(4, 3), decay=DECAY, task=TASK).load_state_dict(kept)


def test_it_is_no_part_of_the_distiller_and_can_be_tapped() -> None:
    student = network()
    teacher = AverageTeacher(student, task=TASK)
    objective = CrossEntropy() + SoftTargets() + Hint(student_layer="0", teacher_layer="0")
    distiller = Distiller(student, teacher, objective, example=batch())
    names = {name.split(".")[0] for name in distiller.state_dict()}
    assert names == {"student"}
    step = distiller(batch())
    assert list(step.teacher.features) == ["0"]
    with pytest.raises(InputError, match="teacher has no layer 'nought'"):
        Distiller(student, teacher, Hint(student_layer="0", teacher_layer="nought"), example=batch())
    Distiller(student, teacher, Hint(), example=batch())  # pairs are found


def test_the_doctor_knows_that_it_changes() -> None:
    student = network()
    teacher = AverageTeacher(student, decay=DECAY, task=TASK)
    fixed = ModuleTeacher(network(), task=TASK)
    distiller = Distiller(student, teacher, CrossEntropy() + SoftTargets(), example=batch())
    together = Ensemble({"past": teacher, "fixed": fixed})
    assert list(stateful_teachers(together)) == ["past"]
    watches = TeacherWatch(distiller), TeacherWatch(together)
    loader = [batch() for _ in range(16)]
    (finding,) = check_teacher(distiller, loader, control_metric=1.0)
    assert (finding.check, finding.severity) == ("teacher_quality", "note")
    assert {found.severity for found in diagnose(distiller, loader)} == {"note"}
    assert teacher.steps == 0
    train(student, teacher, torch.optim.SGD(student.parameters(), lr=0.1), 3)
    for watch in watches:
        watch.check()
    with torch.no_grad():
        fixed.module[0].bias += 1.0
    assert watches[1].changed() == ["members.fixed.teacher.0.bias"]


def test_what_cannot_be_averaged_is_refused() -> None:
    with pytest.raises(InputError, match=r"at least 0 and below 1, got 1\.0"):
        AverageTeacher(network(), decay=1.0, task=TASK)
    with pytest.raises(InputError, match=r"torch\.bfloat16.*expected float32"):
        AverageTeacher(network().bfloat16(), task=TASK)


def test_nothing_keeps_it_alive() -> None:
    teacher = AverageTeacher(network(), task=TASK)
    living = weakref.ref(teacher)
    del teacher
    gc.collect()
    assert living() is None
