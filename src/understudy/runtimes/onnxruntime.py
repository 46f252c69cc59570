"""An ONNX graph in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from understudy.errors import InputError
from understudy.extras import imported
from understudy.foreign import reason
from understudy.runtimes.card import KEY
from understudy.runtimes.session import Port

_ERRORS_ONLY = 3
"""Severity from which ONNX Runtime writes to stderr."""


@final
class OnnxSession:
    """A graph that is loaded once and run many times.

    Args:
        path: the file.
        device: where the batches are; a GPU is used where this build of ONNX Runtime can.
        threads: on the CPU; as many as torch has at that moment when not given.
        shares: whether the cores are also others', such as a student's: threads then sleep between two runs instead of
            waiting busily.

    Raises:
        InputError: when ONNX Runtime is not installed, or cannot load the file.
    """

    def __init__(self, path: Path, device: torch.device, *, threads: int | None = None, shares: bool = True) -> None:
        runtime = imported("onnxruntime", extra="export", needed_by="running an ONNX file")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", "0" if shares else "1")
        try:
            self._session = exact_session(path, options, _providers(device, runtime.get_available_providers()))
        except Exception as error:  # each failure of ONNX Runtime is of a class of its own
            raise InputError(f"{path} cannot be run by ONNX Runtime: {reason(error)}") from error
        self.inputs = tuple(_port(node) for node in self._session.get_inputs())
        self.outputs = tuple(_port(node) for node in self._session.get_outputs())
        self.card: str | None = self._session.get_modelmeta().custom_metadata_map.get(KEY)

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

    def call(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """All outputs, for one tensor per input in the graph's order."""
        names = [port.name for port in self.inputs]
        return self.run([port.name for port in self.outputs], dict(zip(names, tensors, strict=True)))


def _port(node: Any) -> Port:
    return Port(node.name, node.type, tuple(size if isinstance(size, int) else None for size in node.shape))


def exact_session(path: Path, options: Any, providers: Sequence[Any] = ("CPUExecutionProvider",)) -> Any:
    """Open a graph so that its integers are summed exactly, whatever the processor.

    Without VNNI, ONNX Runtime adds pairs of products of unsigned activations and signed weights in 16 bits, and cuts
    off what does not fit, unless it is asked to be precise; with VNNI that changes nothing. What it does then fails
    for weights that share a zero point, which one of its optimizers makes of equal ones; files that share them, which
    are not ours, are opened without.

    Args:
        path: the file.
        options: ``onnxruntime.SessionOptions``; changed in place.
        providers: where it may run.

    Returns:
        An ``onnxruntime.InferenceSession``.
    """
    runtime = imported("onnxruntime", extra="export", needed_by="running an ONNX file")
    options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return runtime.InferenceSession(
            str(path), options, providers=list(providers), disabled_optimizers=["ConstantSharing"]
        )
    except Exception:  # a file of somebody else's, whose weights share zero points, or one that cannot be opened at all
        options.add_session_config_entry("session.x64quantprecision", "0")
        return runtime.InferenceSession(str(path), options, providers=list(providers))


def _providers(device: torch.device, available: Sequence[str]) -> list[Any]:
    if device.type == "cuda" and "CUDAExecutionProvider" in available:
        return [("CUDAExecutionProvider", {"device_id": device.index or 0}), "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]
