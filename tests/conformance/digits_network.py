"""A small residual network that has learnt scikit-learn's digits, for tests of what its int8 file answers."""

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

TRAINING = 1400


class Inverted(nn.Module):
    """MobileNetV2's block: a depthwise convolution in wide, a sum in narrow layers."""

    def __init__(self, channels, activation):
        super().__init__()
        wide = 4 * channels
        self.expand = nn.Sequential(nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), activation())
        self.depthwise = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide), activation()
        )
        self.project = nn.Sequential(nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x):
        return x + self.project(self.depthwise(self.expand(x)))


@dataclass(frozen=True)
class Digits:
    """The network with its data: images (N, 1, 8, 8) in [0, 1]."""

    network: nn.Module
    images: Tensor
    labels: Tensor

    @property
    def test(self) -> Tensor:
        return self.images[TRAINING:]

    def calibration(self) -> list[Tensor]:
        return list(self.images[:200].split(50))


def trained_digits() -> Digits:
    torch.manual_seed(0)
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(data.target)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        Inverted(16, nn.ReLU6),
        Inverted(16, nn.ReLU),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
    train(network, images, labels, steps=150)
    return Digits(network.eval(), images, labels)


def train(network, images, labels, *, steps) -> None:
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(steps):
        chosen = torch.randint(0, TRAINING, (64,))
        loss = nn.functional.cross_entropy(network(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
