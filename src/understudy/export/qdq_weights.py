"""Rewritings of what stands in a QDQ graph: weights, biases, batch norms; each keeps the answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from understudy.export import qdq_graph as qdq
from understudy.export.qdq_graph import Array, StoredWeight

_INTEGER_BIAS = float(2**31 - 1)


def store_weights(graph: Any) -> None:
    """Constants that are quantized and dequantized are stored as the integers."""
    for node in qdq.nodes_of(graph, "QuantizeLinear"):
        values, parameters = qdq.array(node.inputs[0]), qdq.scale_and_zero_point(node)
        if values is None or parameters is None:
            continue
        scales, zero_points = (qdq.along(each, values.ndim, qdq.axis_of(node)) for each in parameters)
        bounds = np.iinfo(zero_points.dtype)
        integers = np.clip(np.rint(values / scales) + zero_points, bounds.min, bounds.max).astype(zero_points.dtype)
        node.outputs[0].replace_all_uses_with(qdq.constant(graph, f"{node.inputs[0].name}.integers", integers))
        graph.remove(node, safe=True)


def transpose_weights(graph: Any) -> None:
    """A stored weight that is read transposed is stored transposed."""
    for node in qdq.nodes_of(graph, "Transpose"):
        weight = qdq.stored_weight(node.inputs[0])
        if weight is None or node.outputs[0].is_graph_output():
            continue
        order = node.attributes.get("perm")
        order = list(range(weight.values.ndim))[::-1] if order is None else list(order.as_ints())
        axis = order.index(weight.axis) if weight.scales.size > 1 else 0
        turned = qdq.replace_weight(graph, weight, weight.values.transpose(order), _given(weight), axis=axis)
        node.outputs[0].replace_all_uses_with(turned)
        graph.remove(node, safe=True)


def fold_batch_norms(graph: Any) -> None:
    r"""A batch norm behind a convolution moves into its weight's scales and its bias.

    With :math:`g = \gamma / \sqrt{\sigma^2 + \epsilon}` of a channel, its scale is multiplied by :math:`|g|` and its
    integers by the sign of :math:`g`; the bias becomes :math:`(b - \mu) g + \beta`. -128 has no opposite: a channel
    that holds it and has a negative g takes 127.
    """
    for node in qdq.nodes_of(graph, "BatchNormalization"):
        layer = node.inputs[0].producer()
        if layer is None or layer.op_type != "Conv" or qdq.only_user(node.inputs[0]) is not node:
            continue
        weight, numbers = qdq.stored_weight(layer.inputs[1]), [qdq.array(value) for value in node.inputs[1:5]]
        bias = qdq.bias_of(layer)
        if weight is None or bias is None or any(each is None for each in numbers) or not qdq.along_outputs(weight):
            continue
        gain, shift, mean, variance = (each.astype(np.float64) for each in numbers if each is not None)
        epsilon = node.attributes.get("epsilon")
        factor = gain / np.sqrt(variance + (1e-5 if epsilon is None else epsilon.as_float()))
        signs = np.where(factor < 0, -1, 1).reshape(-1, *[1] * (weight.values.ndim - 1))
        integers = np.clip(weight.values.astype(np.int16) * signs, -128, 127).astype(np.int8)
        qdq.set_weight(graph, layer, weight, integers, weight.scales * np.abs(factor))
        qdq.set_bias(graph, layer, (bias - mean) * factor + shift)
        node.outputs[0].replace_all_uses_with(layer.outputs[0], replace_graph_outputs=True)
        graph.remove(node, safe=True)


def integer_biases(graph: Any) -> None:
    """Biases of integer layers are stored as int32, in units of input scale times weight scale.

    A channel whose unit is too small for its bias (a batch norm had all but closed it) gets a weight of fewer steps.
    """
    for layer in qdq.nodes_of(graph, "Conv", "Gemm"):
        weight, unit = qdq.stored_weight(layer.inputs[1]), _input_scale(layer.inputs[0])
        bias = qdq.array(layer.inputs[2]) if len(layer.inputs) > 2 else None
        if weight is None or unit is None or bias is None or bias.ndim != 1 or not _plain(layer, weight):
            continue
        scales = np.broadcast_to(weight.scales.astype(np.float64), bias.shape)
        least = np.abs(bias) / (unit * _INTEGER_BIAS) * 2
        if (scales < least).any():
            larger = np.maximum(scales, least)
            steps = qdq.along(np.where(larger > 0, scales / np.where(larger > 0, larger, 1), 1), weight.values.ndim, 0)
            qdq.set_weight(graph, layer, weight, np.rint(weight.values * steps).astype(np.int8), larger)
            scales = larger
        units = np.maximum(scales * unit, np.finfo(np.float32).tiny).astype(np.float32)
        integers = np.rint(bias / units).astype(np.int32)
        name = layer.inputs[2].name
        stored = [qdq.constant(graph, f"{name}.integers", integers), qdq.constant(graph, f"{name}.scale", units)]
        zeros = qdq.constant(graph, f"{name}.zero_point", np.zeros(units.shape, np.int32))
        layer.replace_input_with(2, qdq.inserted(graph, layer, "DequantizeLinear", [*stored, zeros], {"axis": 0}))


def _given(weight: StoredWeight) -> Array:
    return weight.scales if weight.scales.size > 1 else weight.scales.reshape(())


def _input_scale(value: Any) -> float | None:
    """The single scale in which a layer's input is quantized."""
    node = value.producer()
    if node is None or node.op_type != "DequantizeLinear":
        return None
    parameters = qdq.scale_and_zero_point(node)
    return float(parameters[0].item()) if parameters is not None and parameters[0].size == 1 else None


def _plain(layer: Any, weight: StoredWeight) -> bool:
    """Whether a layer's outputs are along the first axis of its weight, without factors."""
    if layer.op_type == "Conv":
        return qdq.along_outputs(weight)
    known = {name: attribute.value for name, attribute in layer.attributes.items()}
    ones = known.get("alpha", 1.0) == 1.0 and known.get("beta", 1.0) == 1.0 and not known.get("transA", 0)
    return ones and bool(known.get("transB", 0)) and qdq.along_outputs(weight)
