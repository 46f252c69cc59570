"""What the doctor's tests are made of: digits, small networks, and how to read findings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy import Batch, CrossEntropy, ImageClassification, SoftTargets
from understudy.doctor import Finding

TASK = ImageClassification()
OBJECTIVE = 0.1 * CrossEntropy() + 0.9 * SoftTargets(temperature=4.0)


@dataclass(frozen=True)
class Digits:
    """1297 training and 500 validation images, (N, 1, 8, 8) in [0, 1]."""

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]

    def loader(self, *, size: int = 128) -> list[Batch]:
        return batches(*self.train, size=size)

    def val_loader(self, *, size: int = 128) -> list[Batch]:
        return batches(*self.val, size=size, first=10_000)


def batches(inputs: Tensor, targets: Tensor, *, size: int = 128, first: int = 0) -> list[Batch]:
    ids = torch.arange(len(inputs)) + first
    parts = zip(inputs.split(size), targets.split(size), ids.split(size), strict=True)
    return [Batch(*pair, ids=names) for *pair, names in parts]


def mlp(*hidden: int, dropout: float = 0.0, norm: bool = False) -> nn.Sequential:
    layers, width = [nn.Flatten()], 64
    for units in hidden:
        layers += [nn.Linear(width, units), *([nn.BatchNorm1d(units)] if norm else []), nn.ReLU(), nn.Dropout(dropout)]
        width = units
    return nn.Sequential(*layers, nn.Linear(width, 10))


def train(model: nn.Module, inputs: Tensor, targets: Tensor, *, steps: int = 150) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(steps):
        rows = torch.randint(len(inputs), (128,), generator=generator)
        loss = F.cross_entropy(model(inputs[rows]), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def found(findings: list[Finding], check: str) -> Finding:
    """The one finding of a check."""
    matching = [finding for finding in findings if finding.check == check]
    assert len(matching) == 1, findings
    return matching[0]


def serious(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity != "note"]
