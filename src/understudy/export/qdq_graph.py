"""What stands in an ONNX graph with QuantizeLinear and DequantizeLinear: weights, activations, scales."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.extras import imported

Array = np.ndarray[Any, np.dtype[Any]]
CARRYING = ("MaxPool", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose")
"""Operators that move numbers and make no new ones."""


@dataclass(frozen=True)
class StoredWeight:
    """A weight that lies in the file as integers.

    Attributes:
        node: the DequantizeLinear that makes numbers of it.
        values: int8, of the weight's shape.
        scales: float32, one per slice along ``axis``, or a single one.
        axis: along which the scales are.
    """

    node: Any
    values: Array
    scales: Array
    axis: int


@dataclass(frozen=True)
class Activation:
    """A tensor that is quantized on its way.

    Attributes:
        quantize: its QuantizeLinear.
        dequantize: the DequantizeLinears behind it.
        scales: float32, one per channel, or a single one.
        zero_points: uint8 or int8, as many.
    """

    quantize: Any
    dequantize: tuple[Any, ...]
    scales: Array
    zero_points: Array

    @property
    def nodes(self) -> tuple[Any, ...]:
        """All of its nodes, whose scale and zero point are to stay the same."""
        return (self.quantize, *self.dequantize)

    @property
    def highest(self) -> int:
        """The highest of its integers."""
        return int(np.iinfo(self.zero_points.dtype).max)


def nodes_of(graph: Any, *kinds: str) -> Iterator[Any]:
    """The nodes of some operators, in the graph's order; it may be changed meanwhile."""
    return iter([node for node in graph if node.op_type in kinds])


def array(value: Any) -> Array | None:
    """What a constant holds; None for what is computed."""
    return None if value is None or value.const_value is None else value.const_value.numpy()


def constant(graph: Any, name: str, values: Array) -> Any:
    """A new initialiser; a number is added to a name that is taken."""
    ir = imported("onnx_ir", extra="export", needed_by="writing an int8 ONNX file")
    taken, number = name, 1
    while taken in graph.initializers:
        taken, number = f"{name}.{number}", number + 1
    tensor = ir.tensor(np.array(values, order="C"), name=taken)
    value = ir.Value(name=taken, shape=ir.Shape(values.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def inserted(graph: Any, before: Any, kind: str, inputs: list[Any], attributes: dict[str, Any] | None = None) -> Any:
    """The output of a new node that stands before another one."""
    node = _node(kind, inputs, attributes)
    graph.insert_before(before, node)
    return node.outputs[0]


def inserted_behind(graph: Any, behind: Any, kind: str, inputs: list[Any]) -> Any:
    """The output of a new node that stands behind another one."""
    node = _node(kind, inputs, None)
    graph.insert_after(behind, node)
    return node.outputs[0]


def _node(kind: str, inputs: list[Any], attributes: dict[str, Any] | None) -> Any:
    ir = imported("onnx_ir", extra="export", needed_by="writing an int8 ONNX file")
    return ir.node(kind, inputs, attributes=attributes or {})


def axis_of(node: Any) -> int:
    """Along which axis the scales of a QuantizeLinear or DequantizeLinear are."""
    attribute = node.attributes.get("axis")
    return 1 if attribute is None else attribute.as_int()


def only_user(value: Any) -> Any | None:
    """The one node that reads a value; None if there are several, or if it is an output of the graph."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def scale_and_zero_point(node: Any) -> tuple[Array, Array] | None:
    """Those of a QuantizeLinear or DequantizeLinear, as float32 and the integers' type; None if they are computed."""
    scales = array(node.inputs[1])
    given = node.inputs[2] if len(node.inputs) > 2 else None
    zero_points = np.zeros_like(scales, np.uint8) if given is None and scales is not None else array(given)
    if scales is None or zero_points is None:
        return None
    return scales.astype(np.float32), zero_points


def stored_weight(value: Any) -> StoredWeight | None:
    """The weight that a value is, where the file holds it as signed integers with zero points of zero."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "DequantizeLinear":
        return None
    values, parameters = array(node.inputs[0]), scale_and_zero_point(node)
    if values is None or parameters is None or values.dtype != np.int8 or parameters[1].any():
        return None
    axis = axis_of(node)
    return StoredWeight(node, values, parameters[0].reshape(-1), axis + values.ndim if axis < 0 else axis)


def replace_weight(graph: Any, weight: StoredWeight, values: Array, scales: Array, *, axis: int) -> Any:
    """Give the layer that reads a weight another one of its own.

    Args:
        graph: where they are.
        weight: what to replace.
        values: int8.
        scales: float32, one per slice along ``axis``.
        axis: along which the scales are.

    Returns:
        The new dequantized value, to be given to the layer.
    """
    name = weight.node.inputs[0].name
    inputs = [
        constant(graph, name, values),
        constant(graph, f"{name}.scale", scales.astype(np.float32)),
        constant(graph, f"{name}.zero_point", np.zeros(scales.shape, np.int8)),
    ]
    return inserted(graph, weight.node, "DequantizeLinear", inputs, {"axis": axis})


def activations(graph: Any) -> Iterator[Activation]:
    """Every tensor that is quantized on its way, perhaps below a highest integer, and read only as what it then is."""
    for node in nodes_of(graph, "QuantizeLinear"):
        value, parameters = node.outputs[0], scale_and_zero_point(node)
        capped = only_user(value)
        if capped is not None and capped.op_type == "Min":
            value = capped.outputs[0]
        readers = tuple(use.node for use in value.uses())
        if array(node.inputs[0]) is not None or parameters is None or value.is_graph_output():
            continue
        if readers and all(reader.op_type == "DequantizeLinear" for reader in readers):
            yield Activation(node, readers, parameters[0], parameters[1])


def set_parameters(graph: Any, activation: Activation, scales: Any, zero_points: Any) -> None:
    """Give all nodes of an activation another scale and zero point."""
    name = activation.quantize.outputs[0].name
    values = (
        constant(graph, f"{name}.scale", np.asarray(scales)),
        constant(graph, f"{name}.zero_point", np.asarray(zero_points)),
    )
    for node in activation.nodes:
        node.resize_inputs(3)
        for place, value in enumerate(values, start=1):
            node.replace_input_with(place, value)


def along(values: Array, dimensions: int, axis: int) -> Array:
    """Values per slice along an axis, so that they broadcast against a whole tensor."""
    if values.size == 1:
        return values.reshape(())
    shape = [1] * dimensions
    shape[axis] = values.size
    return values.reshape(shape)


def along_outputs(weight: StoredWeight) -> bool:
    """Whether a weight has one scale for each output of its layer, or one for all."""
    return weight.scales.size == 1 or weight.axis == 0


def bias_of(layer: Any) -> Array | float | None:
    """Of a convolution: zero if there is none, None if it is computed."""
    if len(layer.inputs) < 3 or layer.inputs[2] is None:
        return 0.0
    found = array(layer.inputs[2])
    return None if found is None else found.astype(np.float64)


def set_weight(graph: Any, layer: Any, weight: StoredWeight, integers: Array, scales: Array) -> None:
    """Give a layer other integers and scales along its outputs."""
    floor = np.finfo(np.float32).tiny
    layer.replace_input_with(
        1, replace_weight(graph, weight, integers, np.maximum(scales, floor).astype(np.float32), axis=0)
    )


def set_bias(graph: Any, layer: Any, bias: Array) -> None:
    """Give a layer another bias, of one number per output."""
    name = f"{layer.outputs[0].name}.bias"
    if len(layer.inputs) < 3:
        layer.resize_inputs(3)
    layer.replace_input_with(2, constant(graph, name, bias.astype(np.float32)))
