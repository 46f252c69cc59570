"""Whether TensorRT takes an int8 ONNX file as it is, and the line that builds an engine of it.

The rules are those of its documentation: the section "Explicit Quantization"
(https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/quantized-types-explicit-quantization.html) with
its recommendations where to place Q/DQ, and the classes ``IQuantizeLayer`` and ``IDequantizeLayer`` of the C++ API.
What its ONNX parser refuses besides (integer biases, integer operators) is in https://github.com/onnx/onnx-tensorrt.
Nothing here needs a GPU, and nothing here has been built by TensorRT.

:func:`understudy.export.qdq.quantized_onnx` writes files that fit with ``runtime="tensorrt"``. NNCF quantizes what is
never negative without a sign, and cannot be told otherwise, so that these activations lose one bit there, and a network
that is less sure of its answers may fail the proof.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from understudy.errors import InputError
from understudy.export import qdq_graph as qdq
from understudy.export.onnx import write_onnx
from understudy.export.traced import Traced
from understudy.extras import imported
from understudy.foreign import reason

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_WEIGHTED = {"Conv": 0, "ConvTranspose": 1, "Gemm": None, "MatMul": None}
"""The layers that have weights, and along which axis of them their outputs are, where that is the same for all."""
_INTEGER = ("DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")


def tensorrt_problems(path: str | Path) -> list[str]:
    """What of TensorRT's rules for explicit quantization an ONNX file breaks; nothing for a file that fits.

    Scales and zero points are constants of the file, scales positive, zero points 0, integers signed with eight bits;
    activations have one scale, weights one per output channel or a single one; a quantized layer has both its input
    and its weight quantized; biases stay in float; integers are dequantized before anything else reads them.

    Args:
        path: the file.

    Returns:
        For each breach the node, the rule and what was found.

    Raises:
        InputError: when it is no ONNX file, or what reads ONNX is not installed.
    """
    graph = _graph(Path(path))
    found = [
        *(f"{_named(node)}: {problem}" for node in qdq.nodes_of(graph, *_PAIR) for problem in _of_numbers(node)),
        *(f"{_named(node)}: {problem}" for node in qdq.nodes_of(graph, *_PAIR) for problem in _of_place(node)),
        *(f"{_named(node)}: {problem}" for node in qdq.nodes_of(graph, *_WEIGHTED) for problem in _of_layer(node)),
        *(
            f"{_named(node)}: TensorRT has no operator of this name; quantization is written as QuantizeLinear and "
            "DequantizeLinear"
            for node in graph
            if node.op_type in _INTEGER or node.domain == "com.microsoft"
        ),
    ]
    if not any(qdq.nodes_of(graph, *_PAIR)):
        found.append("the file quantizes nothing; TensorRT would build an engine in float")
    return found


def write_tensorrt(network: Traced, path: Path, card: str) -> bool:
    """Write a network as an ONNX file that TensorRT takes: a float one, or one with explicit quantization.

    Args:
        network: what to write.
        path: the file.
        card: what it carries about itself.

    Returns:
        Whether the number of tokens may change in it.

    Raises:
        InputError: as of :func:`~understudy.export.onnx.write_onnx`, or when the quantized file breaks a rule of
            :func:`tensorrt_problems`.
    """
    tokens = write_onnx(network, path, card, runtime="tensorrt")
    if network.quantized and (problems := tensorrt_problems(path)):
        raise InputError(
            f"the quantized network cannot be written as TensorRT takes it: {'; '.join(problems)}. Quantize weights "
            "and activations, and keep these layers in float (`keep`)"
        )
    return tokens


def trtexec_line(
    path: str | Path, *, batch: tuple[int, int, int] = (1, 8, 64), sizes: tuple[int, int, int] | None = None
) -> str:
    """The command that builds an engine from an ONNX file with NVIDIA's ``trtexec``.

    Types are those of the file (``--stronglyTyped``), as NVIDIA advises for explicit quantization.

    Args:
        path: the file.
        batch: the smallest, the usual and the largest number of samples, for inputs whose first dimension is open.
        sizes: the same for every other open dimension, such as the number of tokens.

    Raises:
        InputError: when it is no ONNX file, sizes are not in order, or there are open dimensions without them.

    Example:
        ``trtexec --onnx=model.onnx --saveEngine=model.plan --stronglyTyped --minShapes=input:1x3x224x224
        --optShapes=input:8x3x224x224 --maxShapes=input:64x3x224x224``
    """
    path = Path(path)
    for name, given in (("batch", batch), ("sizes", sizes)):
        if given is not None and not 1 <= given[0] <= given[1] <= given[2]:
            raise InputError(f"{name}: expected the smallest, usual and largest size in this order, got {given}")
    inputs = [(value.name, _dimensions(value)) for value in _graph(path).inputs]
    parts = ["trtexec", f"--onnx={path}", f"--saveEngine={path.with_suffix('.plan')}", "--stronglyTyped"]
    if any(None in shape for _, shape in inputs):
        for place, option in enumerate(("minShapes", "optShapes", "maxShapes")):
            shown = [
                f"{name}:{'x'.join(map(str, _filled(name, shape, place, batch, sizes)))}" for name, shape in inputs
            ]
            parts.append(f"--{option}={','.join(shown)}")
    return shlex.join(parts)


def _graph(path: Path) -> Any:
    ir = imported("onnx_ir", extra="export", needed_by="checking an ONNX file for TensorRT")
    passes = imported("onnx_ir.passes.common", extra="export", needed_by="checking an ONNX file for TensorRT")
    try:
        model = ir.load(str(path))
    except Exception as error:  # protobuf's own, of no public class
        raise InputError(f"{path} is not an ONNX file that can be read: {reason(error)}") from error
    passes.LiftConstantsToInitializersPass(size_limit=0)(model)
    return model.graph


def _named(node: Any) -> str:
    return f"node {(node.name or node.outputs[0].name)!r} ({node.op_type})"


def _of_numbers(node: Any) -> Iterator[str]:
    """Breaches of the scale, zero point and type of a QuantizeLinear or DequantizeLinear."""
    scales = qdq.array(node.inputs[1])
    point = node.inputs[2] if len(node.inputs) > 2 else None
    points = qdq.array(point)
    if scales is None or (point is not None and points is None):
        yield "scale and zero point must be constants of the file, they are computed"
        return
    if not (np.isfinite(scales) & (scales > 0)).all():
        yield f"scales must be positive, the least is {float(scales.min()):g}"
    if points is not None and points.any():
        yield f"zero points must be 0, one is {int(points.reshape(-1)[np.abs(points).argmax()])}"
    stored = qdq.array(node.inputs[0])
    held = points if points is not None else stored if node.op_type == "DequantizeLinear" else None
    if held is not None and held.dtype != np.int8:
        what = "biases stay in float" if held.dtype == np.int32 else "integers must be signed, with eight bits"
        yield f"{what}, these are {held.dtype}"
    if scales.size > 1 and stored is None and not _is_weight(node):
        yield f"an activation has one scale, this one has {scales.size}"


def _of_place(node: Any) -> Iterator[str]:
    """Breaches of what stands before and behind."""
    if node.op_type == "DequantizeLinear":
        source = node.inputs[0].producer()
        if qdq.array(node.inputs[0]) is None and (source is None or source.op_type != "QuantizeLinear"):
            yield "must stand behind a QuantizeLinear, or read integers that the file holds"
    else:
        others = sorted({use.node.op_type for use in node.outputs[0].uses()} - {"DequantizeLinear"})
        if others or node.outputs[0].is_graph_output():
            yield f"only DequantizeLinear may read its integers, {', '.join(others) or 'an output of the file'} does"


def _of_layer(node: Any) -> Iterator[str]:
    """Breaches of a layer with weights, where it is quantized at all."""
    weight, data = node.inputs[1], node.inputs[0]
    if not (_is_constant(weight) and (_is_dequantized(weight) or _is_dequantized(data))):
        return
    if not _is_dequantized(weight):
        yield "its input is quantized and its weight is not; both must be, or neither"
    elif not _is_dequantized(data):
        yield "its weight is quantized and its input is not; both must be, or neither"
    if not _is_dequantized(weight):
        return
    source = weight.producer()
    scales, axis = qdq.array(source.inputs[1]), qdq.axis_of(source)
    expected = _output_axis(node)
    if scales is not None and scales.size > 1 and axis != expected:
        yield f"scales of its weight must be along its outputs (axis {expected}), they are along axis {axis}"


def _output_axis(node: Any) -> int:
    axis = _WEIGHTED[node.op_type]
    if axis is not None:
        return axis
    transposed = node.attributes.get("transB")
    return 0 if transposed is not None and transposed.as_int() else 1


def _is_dequantized(value: Any) -> bool:
    """Whether integers are behind a value, through what only moves numbers."""
    node = value.producer()
    while node is not None and node.op_type in qdq.CARRYING:
        node = node.inputs[0].producer()
    return node is not None and node.op_type == "DequantizeLinear"


def _is_constant(value: Any) -> bool:
    """Whether a value is a weight: a constant, as it is or quantized."""
    node = value.producer()
    return qdq.array(value) is not None or (node is not None and node.op_type in _PAIR and _is_weight(node))


def _is_weight(node: Any) -> bool:
    """Whether a QuantizeLinear or DequantizeLinear is about a constant."""
    while node is not None and node.op_type in _PAIR:
        if qdq.array(node.inputs[0]) is not None:
            return True
        node = node.inputs[0].producer()
    return False


def _dimensions(value: Any) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in value.shape or ())


def _filled(
    name: str,
    shape: Sequence[int | None],
    place: int,
    batch: tuple[int, int, int],
    sizes: tuple[int, int, int] | None,
) -> Iterator[int]:
    for number, size in enumerate(shape):
        if size is None and number > 0 and sizes is None:
            raise InputError(
                f"input {name!r} has an open dimension {number} beside the batch; say the smallest, usual and largest "
                "size with sizes"
            )
        open_size = batch[place] if number == 0 or sizes is None else sizes[place]
        yield open_size if size is None else size
