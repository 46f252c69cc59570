"""A healthy set-up has no findings, and looking at one changes nothing."""

import copy
import random
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import understudy as us
from doctor.setting import OBJECTIVE, TASK, Digits, mlp, serious, train
from understudy.doctor import diagnose
from understudy.teachers import Ensemble, ModuleTeacher


def test_a_healthy_distillation_has_no_findings(digits, distiller):
    assert diagnose(distiller, digits.loader(), val=digits.val_loader(), classes=list("0123456789")) == []


def test_the_library_offers_it_lazily(digits, distiller):
    assert us.diagnose(distiller, digits.loader()) == []


@pytest.mark.parametrize("steps", [15, 150])
def test_other_healthy_set_ups_are_not_accused(digits, distill, steps):
    teacher = train(mlp(64, 32), *digits.train, steps=steps).eval()
    pair = [ModuleTeacher(copy.deepcopy(teacher), task=TASK) for _ in range(2)]
    hint = us.Hint(student_layer="1", teacher_layer="1")
    set_ups = [
        distill(mlp(32, norm=True, dropout=0.3), teacher, OBJECTIVE + hint),
        distill(mlp(16), Ensemble(pair), us.SoftTargets(temperature=20.0)),
        distill(copy.deepcopy(teacher).train(), teacher),
        distill(mlp(16), None, us.CrossEntropy()),
        distill(mlp(16), nn.Sequential(mlp(64, 32), nn.ReLU(), nn.Linear(10, 1000)).eval(), us.CrossEntropy() + hint),
    ]
    for set_up in set_ups:
        assert serious(diagnose(set_up, digits.loader(), val=digits.val_loader())) == []


def test_a_mostly_unlabelled_transfer_set_is_healthy(digits, distiller):
    inputs, targets = digits.train
    few = targets.clone()
    few[100:] = us.IGNORE_INDEX
    loader = [us.Batch(x, y) for x, y in zip(inputs.split(64), few.split(64), strict=True)]
    assert serious(diagnose(distiller, loader, val=digits.val_loader())) == []


def test_a_convolutional_set_up_is_healthy(digits, teacher, distill):
    student = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    assert diagnose(distill(student, teacher), digits.loader(), val=digits.val_loader()) == []


def everything(distiller: us.Distiller, teacher: nn.Module, optimizer: torch.optim.Optimizer) -> list:
    modules = [*distiller.named_modules(), *teacher.named_modules()]
    tensors = [*distiller.state_dict().values(), *teacher.state_dict().values()]
    gradients = [None if each.grad is None else each.grad.clone() for each in distiller.parameters()]
    state = [value.clone() for slots in optimizer.state_dict()["state"].values() for value in slots.values()]
    return [
        [(name, module.training, len(module._forward_hooks)) for name, module in modules],
        [each.clone() for each in tensors],
        gradients,
        state,
        torch.get_rng_state(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
    ]


def same(first: object, second: object) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def test_nothing_is_changed(digits: Digits, distill: Callable, teacher: nn.Module):
    student = mlp(32, dropout=0.5, norm=True)
    hint = us.Hint(student_layer="1", teacher_layer="1")
    distiller = distill(student, teacher, OBJECTIVE + hint)
    student[3].eval()  # a mode of its own must survive too
    optimizer = torch.optim.Adam(distiller.parameters())
    distiller(digits.loader()[0]).loss.backward()
    optimizer.step()
    before = everything(distiller, teacher, optimizer)
    diagnose(distiller, digits.loader(), val=digits.val_loader())
    us.doctor.term_balance(distiller, digits.loader()[0])
    us.doctor.check_teacher(distiller, digits.val_loader())
    assert same(before, everything(distiller, teacher, optimizer))


def test_a_shuffled_loader_yields_what_it_would_have_yielded(digits, distiller):
    def order(examined: bool) -> list:
        torch.manual_seed(3)
        generator = torch.Generator().manual_seed(7)
        loaders = [
            DataLoader(TensorDataset(*digits.train), batch_size=64, shuffle=True, generator=each)
            for each in (generator, None)
        ]
        if examined:
            diagnose(distiller, loaders[0], val=loaders[1])
        return [targets for loader in loaders for _, targets in loader]

    assert same(order(False), order(True))


def test_a_loader_that_can_be_read_once_is_refused(digits, distiller):
    with pytest.raises(us.InputError, match="can be read only once"):
        diagnose(distiller, iter(digits.loader()))


def test_an_empty_loader_is_refused(distiller):
    with pytest.raises(us.InputError, match="gave no batch"):
        diagnose(distiller, [])


def test_it_takes_seconds(digits, distiller):
    started = time.perf_counter()
    diagnose(distiller, digits.loader(), val=digits.val_loader())
    assert time.perf_counter() - started < 10.0
