"""Writing OpenVINO's own files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from understudy.export.blame import blamed
from understudy.export.qdq import plain_quantizers
from understudy.export.traced import Traced, program_of, refuse_decisions
from understudy.extras import imported
from understudy.foreign import quiet
from understudy.runtimes.card import KEY


def write_openvino(network: Traced, path: Path, card: str) -> bool:
    """Write a network as ``NAME.xml`` and, for its weights, ``NAME.bin``.

    Recurrent and quantized networks are traced by running them, others come from ``torch.export``.

    Args:
        network: what to write.
        path: the ``.xml`` file.
        card: what it carries about itself.

    Returns:
        Whether the number of tokens may change in it.

    Raises:
        InputError: when OpenVINO is not installed, or has no form of an operator, naming the layer.
    """
    openvino = imported("openvino", extra="export", needed_by="writing an OpenVINO file")
    running = network.quantized or network.recurrent
    model, tokens = (_by_running if running else _by_program)(network, openvino)
    for port, tensor, name in zip(model.inputs, network.tensors, network.names, strict=True):
        shape = [-1, *([-1] if tokens else tensor.shape[1:2]), *tensor.shape[2:]]
        port.get_node().set_partial_shape(openvino.PartialShape(shape))
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
    model.outputs[0].get_tensor().set_names({"logits"})
    model.validate_nodes_and_infer_types()
    model.set_rt_info(card, [KEY])
    openvino.save_model(model, path, compress_to_fp16=False)
    return tokens


def _by_program(network: Traced, openvino: Any) -> tuple[Any, bool]:
    program, tokens = program_of(network, what="OpenVINO")
    try:
        with quiet():
            return openvino.convert_model(program), tokens
    except Exception as error:  # OpenVINO's own classes
        raise blamed("OpenVINO", error, network.flat, network.tensors) from error


def _by_running(network: Traced, openvino: Any) -> tuple[Any, bool]:
    flat = plain_quantizers(network.flat, network.tensors) if network.quantized else network.flat
    try:
        with quiet(), warnings.catch_warnings(record=True) as seen, torch.no_grad():
            warnings.simplefilter("always")
            model = openvino.convert_model(flat, example_input=network.tensors)
    except Exception as error:
        raise blamed("OpenVINO", error, network.flat, network.tensors) from error
    refuse_decisions(seen, "OpenVINO", network)
    return model, network.tokens
