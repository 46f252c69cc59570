"""Writing ONNX files."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from understudy.export.blame import blamed
from understudy.export.qdq import Int8Runtime, quantized_onnx
from understudy.export.traced import Traced, program_of, refuse_decisions
from understudy.extras import imported
from understudy.foreign import quiet
from understudy.runtimes.card import KEY

OPSET = 18
"""The version of ONNX's operators that files are written in; what runtimes of 2023 and later read."""


def write_onnx(
    network: Traced, path: Path, card: str, *, opset: int = OPSET, runtime: Int8Runtime = "onnxruntime"
) -> bool:
    """Write a network as an ONNX file, with its weights in it.

    Recurrent networks are traced by running them, which keeps their loops as ONNX's own LSTM and GRU; others come from
    ``torch.export``. What NNCF has quantized gets the integers that :mod:`understudy.export.qdq` writes.

    Args:
        network: what to write.
        path: the file.
        card: what it carries about itself.
        opset: the version of ONNX's operators.
        runtime: what a quantized network's file is for.

    Returns:
        Whether the number of tokens may change in it.

    Raises:
        InputError: when what writes ONNX is not installed, or ONNX has no form of an operator, naming the layer.
    """
    onnx = imported("onnx", extra="export", needed_by="writing an ONNX file")
    imported("onnxscript", extra="export", needed_by="writing an ONNX file")
    tokens = network.tokens
    if network.quantized:
        quantized_onnx(network.flat, network.tensors, path, inputs=network.names, runtime=runtime, opset=opset)
        tokens = False
    elif network.recurrent:
        _by_running(network, path, opset)
    else:
        tokens = _by_program(network, path, opset)
    model = onnx.load(path)
    for node in model.graph.node:  # where in whose source code it was written
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.helper.set_model_props(model, {KEY: card})
    onnx.save(model, path)
    return tokens


def _by_program(network: Traced, path: Path, opset: int) -> bool:
    program, tokens = program_of(network, what="ONNX")
    try:
        with quiet():
            torch.onnx.export(
                program,
                (),
                path,
                dynamo=True,
                verbose=False,
                input_names=list(network.names),
                output_names=["logits"],
                opset_version=opset,
                external_data=False,
            )
    except Exception as error:  # each of the exporter's own classes
        raise blamed("ONNX", error, network.flat, network.tensors) from error
    return tokens


def _by_running(network: Traced, path: Path, opset: int) -> None:
    try:
        with quiet(), warnings.catch_warnings(record=True) as seen, torch.no_grad():
            warnings.simplefilter("always")
            torch.onnx.export(
                network.flat,
                network.tensors,
                str(path),
                dynamo=False,
                opset_version=opset,
                input_names=list(network.names),
                output_names=["logits"],
                dynamic_axes={**network.axes(), "logits": {0: "batch"}},
            )
    except Exception as error:
        raise blamed("ONNX", error, network.flat, network.tensors) from error
    refuse_decisions(seen, "ONNX", network)
