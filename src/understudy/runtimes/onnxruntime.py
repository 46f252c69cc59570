"""An ONNX graph in ONNX Runtime, beside torch: on as many threads, which sleep while they wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from understudy.errors import InputError
from understudy.extras import imported

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
_ERRORS_ONLY = 3
"""Severity from which ONNX Runtime writes to stderr."""


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

    @property
    def dtype(self) -> torch.dtype | None:
        """Its type in torch; None for what is no such tensor."""
        return _TYPES.get(self.type)

    def __str__(self) -> str:
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return f"{self.name!r} ({sizes}) {str(self.dtype or self.type).removeprefix('torch.')}"


@final
class OnnxSession:
    """A graph that is loaded once and run many times.

    It takes as many threads as torch has at that moment. Between two runs they sleep instead of waiting busily: the
    cores are then the student's.

    Args:
        path: the file.
        device: where the batches are; a GPU is used where this build of ONNX Runtime can.

    Raises:
        InputError: when ONNX Runtime is not installed, or cannot load the file.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        runtime = imported("onnxruntime", extra="export", needed_by="running an ONNX file")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = runtime.InferenceSession(
                str(path), options, providers=_providers(device, runtime.get_available_providers())
            )
        except Exception as error:  # each failure of ONNX Runtime is of a class of its own
            raise InputError(f"{path} cannot be run by ONNX Runtime: {reason(error)}") from error
        self.inputs = tuple(_port(node) for node in self._session.get_inputs())
        self.outputs = tuple(_port(node) for node in self._session.get_outputs())

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Some outputs of the graph, on the CPU.

        Args:
            outputs: their names.
            inputs: a tensor of the right type and shape for each input, on any device.

        Raises:
            InputError: when the graph cannot take them.
        """
        arrays = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in inputs.items()}
        try:
            found = self._session.run(list(outputs), arrays)
        except Exception as error:
            shapes = ", ".join(f"{name!r} {tuple(tensor.shape)}" for name, tensor in inputs.items())
            raise InputError(f"the ONNX graph cannot take {shapes}: {reason(error)}") from error
        return [torch.from_numpy(array) for array in found]


def reason(error: Exception) -> str:
    """What another library's error says, in one short line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 200 else f"{text[:199]}…"


def _port(node: Any) -> Port:
    return Port(node.name, node.type, tuple(size if isinstance(size, int) else None for size in node.shape))


def _providers(device: torch.device, available: Sequence[str]) -> list[Any]:
    if device.type == "cuda" and "CUDAExecutionProvider" in available:
        return [("CUDAExecutionProvider", {"device_id": device.index or 0}), "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]
