"""ONNX files whose weights have eight bits and whose activations are rounded as they come."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from understudy.errors import InputError
from understudy.export.onnx import write_onnx
from understudy.export.qdq_graph import Array, array, constant, inserted, nodes_of
from understudy.export.traced import Traced
from understudy.extras import imported
from understudy.files import replacing
from understudy.foreign import quiet, reason

_NEEDED_BY = "writing a dynamically quantized ONNX file"
_EXECUTED = ("MatMul", "LSTM", "Attention", "Gather", "EmbedLayerNormalization")
"""What ONNX Runtime executes with integers; a Gemm becomes a MatMul. A convolution of integers is slower there."""
_FLOAT = 1
"""ONNX's number of float32."""
_STORED = ("GRU", "RNN")
"""What it executes in float only."""
_INTEGER = {
    "MatMulInteger": "MatMul",
    "DynamicQuantizeMatMul": "MatMul",
    "DynamicQuantizeLSTM": "LSTM",
    "QAttention": "Attention",
    "QEmbedLayerNormalization": "EmbedLayerNormalization",
}


@dataclass(frozen=True, slots=True)
class DynamicInt8:
    """What became of the operators of a file.

    Attributes:
        executed: how many of which are executed with integers.
        stored: how many of which have their weights in eight bits, and are executed in float: the file is smaller, not
            faster.
    """

    executed: Mapping[str, int]
    stored: Mapping[str, int]


def dynamic_int8(source: str | Path, path: str | Path, *, reduce_range: bool = False) -> DynamicInt8:
    """Write a float ONNX file with weights of eight bits, for recurrent networks and transformers; without calibration.

    ONNX Runtime multiplies linear layers and LSTMs in integers, with a scale per output channel for weights, and for
    activations one that it takes from each input. It has no integer kernel for GRU and plain recurrent layers, and
    neither has OpenVINO (2026.4): their weights are stored in eight bits with a scale per row, and become floats when
    the file is loaded, so that the file is a quarter as large, and as fast as before. Convolutions stay as they are;
    what makes them integer is :func:`understudy.export.calibrated.onnxruntime_int8`.

    Args:
        source: the float file. What it says about itself is kept.
        path: of the new file.
        reduce_range: whether weights get seven bits, for CPUs without VNNI, on which sums of eight bits may overflow.

    Returns:
        What is executed with integers now, and what is only stored so.

    Raises:
        InputError: when ONNX Runtime is not installed, or the file is none, or has none of these layers.
    """
    quantization = imported("onnxruntime.quantization", extra="export", needed_by=_NEEDED_BY)
    ir = imported("onnx_ir", extra="export", needed_by=_NEEDED_BY)
    source = Path(source)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        written = Path(folder) / "int8.onnx"
        try:
            with quiet():
                before = ir.load(str(source))
                quantization.quantize_dynamic(
                    str(source),
                    str(written),
                    op_types_to_quantize=list(_EXECUTED),
                    per_channel=True,
                    reduce_range=reduce_range,
                    weight_type=quantization.QuantType.QInt8,
                )
        except Exception as error:  # each of its parts raises its own
            raise InputError(f"{source} cannot be quantized by ONNX Runtime: {reason(error)}") from error
        model = ir.load(str(written))
        stored = _store_recurrent(model.graph)
        executed = Counter(_INTEGER[node.op_type] for node in nodes_of(model.graph, *_INTEGER))
        if not executed and not stored:
            raise InputError(
                f"{source} has no linear, LSTM, GRU or plain recurrent layer with weights of its own; convolutions "
                "become int8 by calibration (understudy.export.onnxruntime_int8)"
            )
        model.metadata_props.clear()
        model.metadata_props.update(before.metadata_props)
        with replacing(Path(path)) as temporary:
            ir.save(model, str(temporary))
    return DynamicInt8(dict(executed), dict(stored))


def write_dynamic_onnx(network: Traced, path: Path, card: str) -> bool:
    """Write a float network as an ONNX file, and that as :func:`dynamic_int8` does.

    Args:
        network: what to write.
        path: the file.
        card: what it carries about itself.

    Returns:
        Whether the number of tokens may change in it.

    Raises:
        InputError: as of :func:`~understudy.export.onnx.write_onnx` and :func:`dynamic_int8`.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        written = Path(folder) / "float.onnx"
        tokens = write_onnx(network, written, card)
        dynamic_int8(written, path)
    return tokens


def _store_recurrent(graph: Any) -> Counter[str]:
    """Put the weights of recurrent layers that stay in float into eight bits, one scale per row of each direction."""
    stored: Counter[str] = Counter()
    for node in nodes_of(graph, *_STORED):
        weights = [array(value) for value in node.inputs[1:3]]
        for place, weight in enumerate(weights, start=1):
            if weight is not None and weight.dtype == np.float32:
                node.replace_input_with(place, _stored(graph, node, node.inputs[place].name, weight))
        stored[node.op_type] += all(weight is not None for weight in weights)
    for name in [name for name, value in graph.initializers.items() if not value.uses()]:
        if not graph.initializers[name].is_graph_output():
            del graph.initializers[name]
    return +stored


def _stored(graph: Any, node: Any, name: str, weight: Array) -> Any:
    scales = np.maximum(np.abs(weight).max(axis=-1, keepdims=True) / 127, np.finfo(np.float32).tiny)
    integers = constant(graph, f"{name}.integers", np.rint(weight / scales).astype(np.int8))
    floats = inserted(graph, node, "Cast", [integers], {"to": _FLOAT})
    return inserted(graph, node, "Mul", [floats, constant(graph, f"{name}.scale", scales.astype(np.float32))])
