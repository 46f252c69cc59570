"""A small real distillation on scikit-learn's digits, healthy unless a test breaks it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from doctor.setting import OBJECTIVE, TASK, Digits, mlp, train
from understudy import Distiller


@pytest.fixture(scope="session")
def digits() -> Digits:
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    inputs = torch.tensor(images, dtype=torch.float32)[order].reshape(-1, 1, 8, 8) / 16.0
    targets = torch.tensor(labels)[order]
    return Digits((inputs[:1297], targets[:1297]), (inputs[1297:], targets[1297:]))


@pytest.fixture(scope="session")
def trained(digits: Digits) -> nn.Module:
    """A teacher with dropout and batch normalisation, right on about 97 % of the validation images."""
    torch.manual_seed(0)
    return train(mlp(128, 128, dropout=0.2, norm=True), *digits.train)


@pytest.fixture
def teacher(trained: nn.Module) -> nn.Module:
    return copy.deepcopy(trained)


@pytest.fixture
def student() -> nn.Module:
    return mlp(16)


@pytest.fixture
def distiller(digits: Digits, student: nn.Module, teacher: nn.Module) -> Distiller:
    return Distiller(student, teacher, OBJECTIVE, example=digits.loader()[0], task=TASK)


@pytest.fixture
def distill(digits: Digits) -> Callable[..., Distiller]:
    """Any student and teacher on the healthy objective."""

    def make(student: nn.Module, teacher: object, objective: object = OBJECTIVE) -> Distiller:
        return Distiller(student, teacher, objective, example=digits.loader()[0], task=TASK)

    return make
