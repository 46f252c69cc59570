"""Small real data and small networks for the engine's tests."""

from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from understudy import Batch


@pytest.fixture(scope="session")
def digits() -> tuple[Tensor, Tensor]:
    """Inputs (1797, 64) in [0, 1] and their labels."""
    inputs, targets = load_digits(return_X_y=True)
    return torch.tensor(inputs / 16.0, dtype=torch.float32), torch.tensor(targets)


@pytest.fixture
def batches(digits: tuple[Tensor, Tensor]) -> list[Batch]:
    """Eight batches of 32 samples with ids."""
    inputs, targets = digits
    return [
        Batch(inputs=inputs[i : i + 32].clone(), targets=targets[i : i + 32].clone(), ids=torch.arange(i, i + 32))
        for i in range(0, 256, 32)
    ]


@pytest.fixture
def val(digits: tuple[Tensor, Tensor]) -> list[Batch]:
    """One batch of 200 other samples."""
    inputs, targets = digits
    return [Batch(inputs=inputs[1000:1200], targets=targets[1000:1200])]


@pytest.fixture
def network() -> Callable[..., nn.Module]:
    """Makes an MLP: ``network(hidden, dropout=0.0)``."""

    def make(hidden: int = 16, dropout: float = 0.0) -> nn.Module:
        return nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 10))

    return make
