"""Networks to export."""

import pytest
import torch
from torch import Tensor, nn


class Recurrent(nn.Module):
    """A classifier of sequences (batch, time, 6)."""

    def __init__(self, kind: str = "LSTM", middle: nn.Module | None = None) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(6, 16, batch_first=True)
        self.middle = middle or nn.Identity()
        self.head = nn.Linear(16, 5)

    def forward(self, sequence: Tensor) -> Tensor:
        return self.head(self.middle(self.rnn(sequence)[0][:, -1]))


@pytest.fixture
def recurrent() -> type[Recurrent]:
    return Recurrent


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
