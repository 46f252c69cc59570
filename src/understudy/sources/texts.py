"""Texts in memory: their bytes one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from understudy.tokenizing import Text, utf8


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts of any lengths, without the padding that a rectangle of them would need.

    Attributes:
        content: uint8, the bytes in UTF-8 of all texts, one after the other, those that are selected and others.
        starts: int64 (N,), where each text begins.
        lengths: int64 (N,), how many bytes each has.
    """

    content: Tensor
    starts: Tensor
    lengths: Tensor

    @staticmethod
    def of(texts: Sequence[Text]) -> Texts:
        """Hold some texts; the characters U+0000 and U+001E, which are no text, become spaces.

        Args:
            texts: any, also empty ones, and pairs of them.
        """
        encoded = utf8(texts)
        lengths = torch.tensor([len(text) for text in encoded], dtype=torch.int64)
        content = torch.frombuffer(bytearray(b"".join(encoded) or b"\0"), dtype=torch.uint8)
        return Texts(content, lengths.cumsum(0) - lengths, lengths)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, bytes of the longest) of the tensor that they would make."""
        return len(self), max(1, int(self.lengths.max())) if len(self) else 1

    def __len__(self) -> int:
        return len(self.lengths)

    def select(self, indices: Tensor) -> Texts:
        """Some of them."""
        return Texts(self.content, self.starts[indices], self.lengths[indices])

    def to(self, device: torch.device | str) -> Texts:
        """The same on another device."""
        return Texts(self.content.to(device), self.starts.to(device), self.lengths.to(device))

    def gather(self, indices: Tensor) -> Tensor:
        """Some of them as a tensor: uint8 (n, bytes of the longest of them), with zeros after the shorter ones."""
        starts, lengths = self.starts.index_select(0, indices), self.lengths.index_select(0, indices)
        longest = max(1, int(lengths.max())) if len(lengths) else 1
        places = torch.arange(longest, device=starts.device)
        real = places < lengths[:, None]
        return self.content[torch.where(real, starts[:, None] + places, 0)] * real
