"""What every runtime gives: a graph that is loaded once and run many times."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

_TYPES = {
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(float16)": torch.float16,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(int16)": torch.int16,
    "tensor(int8)": torch.int8,
    "tensor(uint8)": torch.uint8,
    "tensor(bool)": torch.bool,
}
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_WHERE = ("Check 'false' failed at", "Exception from src/", "FrontEnd API failed")
"""How OpenVINO begins, before it says what is wrong."""
_NAMES = {dtype: name for name, dtype in _TYPES.items()}


@dataclass(frozen=True)
class Port:
    """An input or output of a graph.

    Attributes:
        name: in the graph.
        type: as ONNX Runtime calls it, such as ``tensor(float)``.
        shape: its dimensions; None for one that may be of any size. Empty where the graph does not say.
    """

    name: str
    type: str
    shape: tuple[int | None, ...]

    @classmethod
    def of(cls, name: str, dtype: torch.dtype, shape: Sequence[int | None]) -> Port:
        """A port of a type that torch has."""
        return cls(name, _NAMES.get(dtype, str(dtype).removeprefix("torch.")), tuple(shape))

    @property
    def dtype(self) -> torch.dtype | None:
        """Its type in torch; None for what is no such tensor."""
        return _TYPES.get(self.type)

    def __str__(self) -> str:
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return f"{self.name!r} ({sizes}) {str(self.dtype or self.type).removeprefix('torch.')}"


class Session(Protocol):
    """A graph in one runtime."""

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What goes in, in the graph's order."""
        ...

    @property
    def outputs(self) -> tuple[Port, ...]:
        """What comes out."""
        ...

    @property
    def card(self) -> str | None:
        """What the file carries under :data:`~understudy.runtimes.card.KEY`; None for nothing."""
        ...

    def call(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """All outputs, on the CPU.

        Args:
            tensors: one for each input, in the graph's order.

        Raises:
            InputError: when the graph cannot take them.
        """
        ...


def shapes_of(ports: Sequence[Port], tensors: Sequence[Tensor]) -> str:
    """Tensors in words, by the names of the inputs that they were given for."""
    return ", ".join(f"{port.name!r} {tuple(tensor.shape)}" for port, tensor in zip(ports, tensors, strict=True))
