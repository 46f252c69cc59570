"""The networks of method_time.py: small ones that can be asked for what each of their layers gives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Size:
    """How large the work is: samples, classes, height of an image, and widths of the networks."""

    samples: int = 256
    classes: int = 100
    pixels: int = 64
    early: int = 8
    late: int = 64
    tokens: int = 192


TINY = Size(samples=8, classes=5, pixels=16, early=3, late=4, tokens=48)


class Convolutional(nn.Module):
    """Two convolutions and a linear layer; its maps have both signs, as some methods ask for."""

    def __init__(self, size: Size, early: int) -> None:
        super().__init__()
        layers = ((3, early, 1), (early, size.late, 2))
        self.early, self.late = (
            nn.Sequential(nn.Conv2d(a, b, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(b))
            for a, b, stride in layers
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(size.late, size.classes)

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """What each layer gives, by its path, and the classifier's weight."""
        early = self.early(images)
        late = self.late(F.relu(early))
        pool = self.pool(F.relu(late))
        maps = {"early": early, "late": late}
        return {**maps, "pool": pool, "head": self.head(pool), "head.weight": self.head.weight}

    def forward(self, images: Tensor) -> Tensor:
        """The logits."""
        return self.outputs(images)["head"]


class Attention(nn.Module):
    """Attention of three heads that gives its matrices too, its layers named as Hugging Face names them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """What is attended to, the matrices (samples, heads, tokens, tokens), queries, keys and values."""
        made = self.query(tokens), self.key(tokens), self.value(tokens)
        query, key, value = (each.unflatten(2, (3, -1)).transpose(1, 2) for each in made)
        matrices = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        return (matrices @ value).transpose(1, 2).flatten(2), matrices, *made


class Block(nn.Module):
    """A transformer's block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width)
        self.grow, self.shrink = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """What comes out, and what its attention gave."""
        given = self.attention(self.before(tokens))
        tokens = tokens + given[0]
        return tokens + self.shrink(F.gelu(self.grow(self.between(tokens)))), *given


class Transformer(nn.Module):
    """A class token and patches, through three blocks, and a linear layer on the class token."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        side = size.pixels // 4
        self.patches = nn.Conv2d(3, size.tokens, side, stride=side)
        self.first = nn.Parameter(torch.zeros(1, 1, size.tokens))
        self.blocks = nn.ModuleList(Block(size.tokens) for _ in range(3))
        self.head = nn.Linear(size.tokens, size.classes)

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """What each layer gives, by its path."""
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(len(tokens), -1, -1), tokens], dim=1)
        outputs = {}
        names = (":0", ".attention:0", ".attention:1", ".attention.query", ".attention.key", ".attention.value")
        for number, block in enumerate(self.blocks):
            tokens, *given = block(tokens)
            outputs |= {f"blocks.{number}{name}": each for name, each in zip(names, (tokens, *given), strict=True)}
        return outputs | {"head": self.head(tokens[:, 0])}

    def forward(self, images: Tensor) -> Tensor:
        """The logits."""
        return self.outputs(images)["head"]
