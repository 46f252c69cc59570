"""A graph in OpenVINO, from its own format or from ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from understudy.errors import InputError
from understudy.extras import imported
from understudy.foreign import reason
from understudy.runtimes.card import KEY
from understudy.runtimes.session import Port, shapes_of

_TYPES = {"f32": "float32", "f64": "float64", "f16": "float16", "bf16": "bfloat16", "i64": "int64", "i32": "int32"} | {
    "i16": "int16",
    "i8": "int8",
    "u8": "uint8",
    "boolean": "bool",
}


@final
class OpenVinoSession:
    """A graph that OpenVINO executes on the CPU.

    Args:
        model: an ``.xml`` file with its ``.bin`` beside it, an ``.onnx`` file, or a model that OpenVINO holds already.
        threads: as many as torch has at that moment when not given.
        shares: whether the cores are also others', such as a student's: threads are then not bound to cores.

    Raises:
        InputError: when OpenVINO is not installed, or cannot load it.
    """

    def __init__(self, model: Any, *, threads: int | None = None, shares: bool = False) -> None:
        openvino = imported("openvino", extra="export", needed_by="executing a network with OpenVINO")
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # or else bfloat16, where the CPU has it
            "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",  # all threads for one batch
        } | ({"ENABLE_CPU_PINNING": False} if shares else {})
        core = openvino.Core()
        if isinstance(model, Path):
            model = _read(core, model)
        try:
            self._compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise InputError(f"the graph cannot be run by OpenVINO: {reason(error)}") from error
        self.inputs = tuple(_port(node, f"input{number}") for number, node in enumerate(model.inputs))
        self.outputs = tuple(_port(node, f"output{number}") for number, node in enumerate(model.outputs))
        self.card = _card(model)

    def call(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """All outputs, on the CPU, for one tensor per input in the graph's order.

        Raises:
            InputError: when the graph cannot take them.
        """
        arrays = [tensor.detach().cpu().contiguous().numpy() for tensor in tensors]
        try:
            found = self._compiled(arrays, share_inputs=True, share_outputs=False)
        except RuntimeError as error:
            raise InputError(
                f"the OpenVINO graph cannot take {shapes_of(self.inputs, tensors)}: {reason(error)}"
            ) from error
        return [torch.from_numpy(found[number]) for number in range(len(found))]


def _read(core: Any, path: Path) -> Any:
    if path.suffix == ".xml" and not path.with_suffix(".bin").is_file():
        raise InputError(
            f"{path} has its weights in {path.with_suffix('.bin').name}, which is not beside it; copy both"
        )
    try:
        return core.read_model(path)
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read by OpenVINO: {reason(error)}") from error


def _port(node: Any, fallback: str) -> Port:
    name = node.get_any_name() if node.get_names() else fallback
    dtype = getattr(torch, _TYPES.get(node.element_type.get_type_name(), ""), None)
    shape = [None if size.is_dynamic else size.get_length() for size in node.partial_shape]
    return Port.of(name, dtype, shape) if dtype is not None else Port(name, str(node.element_type), tuple(shape))


def _card(model: Any) -> str | None:
    for place in ([KEY], ["framework", KEY]):  # of our own files, and of the metadata of an ONNX file
        if model.has_rt_info(place):
            return str(model.get_rt_info(place).value)
    return None
