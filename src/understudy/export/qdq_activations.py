"""Rewritings of what flows through a QDQ graph: activations and their scales; each keeps the answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from understudy.export import qdq_graph as qdq
from understudy.export.qdq_graph import Activation, Array

_TOP = 255


def rectify(graph: Any) -> None:
    """A ReLU or a clip from zero before a quantizer is left to the quantizer, which saturates by itself.

    The integers below that of zero are never used behind it: all move down until zero is 0, unsigned, with the same
    scale. Where the range then ends below the highest integer (of the clip, or of what was above zero), a Min stands
    for that end.
    """
    for activation in list(qdq.activations(graph)):
        bound, zero_points = _upper_bound(activation), activation.zero_points.astype(np.int16)
        if bound is None:
            continue
        tops = np.minimum(np.rint(np.float32(bound) / activation.scales), activation.highest - zero_points)
        quantize, clip = activation.quantize, activation.quantize.inputs[0].producer()
        if clip.op_type == "Clip":
            quantize.replace_input_with(0, qdq.inserted(graph, quantize, "Relu", [clip.inputs[0]]))
            graph.remove(clip, safe=True)
        qdq.set_parameters(graph, activation, activation.scales, np.zeros(zero_points.shape, np.uint8))
        if tops.min() < _TOP:
            _cap(graph, activation, tops.astype(np.uint8))


def single_scales(graph: Any) -> None:
    r"""Activations with a scale :math:`s_c` per channel before depthwise convolutions get one for all of them.

    The largest, s: channel c is multiplied by :math:`s / s_c` before it is quantized, which the convolution before does
    by its weight's scales and bias (a ReLU in between does not mind), and the depthwise one divides by it. Behind
    anything else, the multiplication stands in the graph.
    """
    for activation in list(qdq.activations(graph)):
        scales, zero_points = activation.scales, activation.zero_points
        if scales.size < 2 or qdq.axis_of(activation.quantize) != 1 or (zero_points != zero_points[0]).any():
            continue
        readers = {use.node for node in activation.dequantize for use in node.outputs[0].uses()}
        if any(node.outputs[0].is_graph_output() for node in activation.dequantize):
            continue
        if not all(_is_depthwise(reader, scales.size) for reader in readers):
            continue
        common = scales.max()
        _multiply(graph, activation, common / scales)
        for reader in readers:
            weight = qdq.stored_weight(reader.inputs[1])
            assert weight is not None  # or else it would not be depthwise to us
            ratios = np.repeat(scales / common, weight.values.shape[0] // scales.size)
            qdq.set_weight(graph, reader, weight, weight.values, weight.scales * ratios)
        qdq.set_parameters(graph, activation, common, zero_points[0])
        for node in activation.nodes:
            node.attributes.pop("axis", None)


def spell_out_channels(graph: Any) -> None:
    """Scales per channel that remain are written out as arithmetic around a quantizer of scale 1.

    No runtime knows them for activations, and ONNX Runtime makes an integer layer of such a graph that then fails.
    """
    for activation in list(qdq.activations(graph)):
        scales, zero_points = activation.scales, activation.zero_points
        if scales.size < 2:
            continue
        quantize, name = activation.quantize, activation.quantize.inputs[0].name
        shape = [1] * _rank(activation)
        shape[qdq.axis_of(quantize)] = scales.size
        steps = qdq.constant(graph, f"{name}.steps", scales.reshape(shape))
        zeros = qdq.constant(graph, f"{name}.zeros", zero_points.astype(np.float32).reshape(shape))
        divided = qdq.inserted(graph, quantize, "Div", [quantize.inputs[0], steps])
        quantize.replace_input_with(0, qdq.inserted(graph, quantize, "Add", [divided, zeros]))
        for node in activation.dequantize:
            shifted = qdq.inserted_behind(graph, node, "Sub", [node.outputs[0], zeros])
            scaled = qdq.inserted_behind(graph, shifted.producer(), "Mul", [shifted, steps])
            node.outputs[0].replace_all_uses_with(scaled, replace_graph_outputs=True)
            shifted.producer().replace_input_with(0, node.outputs[0])
        qdq.set_parameters(graph, activation, np.float32(1), zero_points.dtype.type(0))
        for node in activation.nodes:
            node.attributes.pop("axis", None)


def make_unsigned(graph: Any) -> None:
    """Signed activations get unsigned integers, 128 higher, and so does their zero point."""
    for activation in list(qdq.activations(graph)):
        if activation.zero_points.dtype == np.int8:
            shifted = (activation.zero_points.astype(np.int16) + 128).astype(np.uint8)
            qdq.set_parameters(graph, activation, activation.scales, shifted)


def make_signed(graph: Any) -> None:
    """Activations without a sign, or not around zero, get both, over their range, in steps up to twice as wide."""
    for activation in list(qdq.activations(graph)):
        scale, point = float(activation.scales.max()), int(activation.zero_points.max())
        if activation.scales.size > 1 or (activation.zero_points.dtype == np.int8 and point == 0):
            continue
        below = 0 if _upper_bound(activation) is not None else point - activation.highest + _TOP
        widest = max(below, activation.highest - point)
        qdq.set_parameters(graph, activation, np.float32(scale * widest / (_TOP // 2)), np.int8(0))


def carry_integers(graph: Any) -> None:
    """What only moves numbers moves the integers, and they become numbers behind it."""
    for node in qdq.nodes_of(graph, *qdq.CARRYING):
        source = node.inputs[0].producer()
        if source is None or source.op_type != "DequantizeLinear" or qdq.array(source.inputs[0]) is not None:
            continue
        parameters = qdq.scale_and_zero_point(source)
        if parameters is None or parameters[0].size > 1 or node.outputs[0].is_graph_output() or len(node.outputs) > 1:
            continue
        node.replace_input_with(0, source.inputs[0])
        following = qdq.inserted_behind(graph, node, "DequantizeLinear", [node.outputs[0], *source.inputs[1:]])
        node.outputs[0].replace_all_uses_with(following)
        following.producer().replace_input_with(0, node.outputs[0])


def _upper_bound(activation: Activation) -> float | None:
    """Where what an activation is made of ends, if it begins at zero."""
    value = activation.quantize.inputs[0]
    node = value.producer()
    if node is None or node.op_type not in ("Relu", "Clip"):
        return None
    if node.op_type == "Relu":
        return float("inf")
    low, high = (qdq.array(value) if value is not None else None for value in (*node.inputs[1:], None, None)[:2])
    if low is None or high is None or low.item() != 0:
        return None
    return float(high.item()) if qdq.only_user(value) is activation.quantize else None


def _cap(graph: Any, activation: Activation, tops: Array) -> None:
    """Let no integer of an activation be above the given ones, one per channel or a single one."""
    first = activation.dequantize[0]
    shaped = tops.reshape(1, -1, *[1] * (_rank(activation) - 2)) if tops.size > 1 else tops.reshape(())
    name = f"{activation.quantize.outputs[0].name}.top"
    capped = qdq.inserted(graph, first, "Min", [activation.quantize.outputs[0], qdq.constant(graph, name, shaped)])
    for node in activation.dequantize:
        node.replace_input_with(0, capped)


def _is_depthwise(node: Any, channels: int) -> bool:
    weight = qdq.stored_weight(node.inputs[1]) if node.op_type == "Conv" else None
    groups = node.attributes.get("group")
    return weight is not None and qdq.along_outputs(weight) and groups is not None and groups.as_int() == channels


def _rank(activation: Activation) -> int:
    """Of the tensor: that of the weight of a convolution that reads it, which is why there are scales per channel."""
    readers = (use.node for node in activation.dequantize for use in node.outputs[0].uses())
    weights = (qdq.stored_weight(reader.inputs[1]) for reader in readers if reader.op_type == "Conv")
    return next((weight.values.ndim for weight in weights if weight is not None), 4)


def _multiply(graph: Any, activation: Activation, ratios: Array) -> None:
    """Multiply the channels of an activation before it is quantized."""
    quantize = activation.quantize
    value, reader = quantize.inputs[0], quantize
    node = value.producer()
    if node is not None and node.op_type == "Relu" and qdq.only_user(value) is quantize:
        value, reader, node = node.inputs[0], node, node.inputs[0].producer()
    weight = qdq.stored_weight(node.inputs[1]) if node is not None and node.op_type == "Conv" else None
    bias = qdq.bias_of(node) if weight is not None else None
    if weight is None or bias is None or not qdq.along_outputs(weight) or qdq.only_user(value) is not reader:
        shape = (1, -1, *[1] * (_rank(activation) - 2))
        shaped = qdq.constant(graph, f"{quantize.inputs[0].name}.ratios", ratios.reshape(shape))
        quantize.replace_input_with(0, qdq.inserted(graph, quantize, "Mul", [quantize.inputs[0], shaped]))
        return
    qdq.set_weight(graph, node, weight, weight.values, weight.scales * ratios)
    if isinstance(bias, np.ndarray):
        qdq.set_bias(graph, node, bias * ratios)
