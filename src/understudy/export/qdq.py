"""Int8 ONNX files of quantized networks, in the form that their runtime is fast with.

An integer kernel takes the place of ``DequantizeLinear → layer → QuantizeLinear`` only: whatever stands in between (a
batch norm, a transposed weight, a clip, a bias in float) leaves the layer in float, with two conversions beside it.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from understudy.edits.nncf_library import is_quantized, nncf_library
from understudy.errors import InputError
from understudy.export import qdq_activations, qdq_weights
from understudy.export.blame import blamed
from understudy.export.qdq_graph import array, constant, nodes_of
from understudy.extras import imported
from understudy.files import replacing
from understudy.foreign import quiet

Int8Runtime = Literal["onnxruntime", "tensorrt"]
"""What an int8 ONNX file is written for; OpenVINO takes either."""
_REWRITES: dict[Int8Runtime, tuple[Callable[[Any], None], ...]] = {
    "onnxruntime": (
        qdq_weights.store_weights,
        qdq_weights.transpose_weights,
        qdq_weights.fold_batch_norms,
        qdq_activations.rectify,
        qdq_activations.single_scales,
        qdq_activations.spell_out_channels,
        qdq_activations.make_unsigned,
        qdq_activations.carry_integers,
        qdq_weights.integer_biases,
    ),
    "tensorrt": (
        qdq_weights.store_weights,
        qdq_weights.transpose_weights,
        qdq_weights.fold_batch_norms,
        qdq_activations.single_scales,
        qdq_activations.spell_out_channels,
        qdq_activations.make_signed,
    ),
}
"""What a graph needs, in this order. TensorRT keeps biases in float, and knows signed activations around zero only."""


def quantized_onnx(
    network: nn.Module,
    example: Sequence[Tensor],
    path: str | Path,
    *,
    inputs: Sequence[str] = ("input",),
    outputs: Sequence[str] = ("logits",),
    axes: Mapping[str, Mapping[int, str]] | None = None,
    runtime: Int8Runtime = "onnxruntime",
    opset: int = 17,
) -> None:
    """Write a network that NNCF has quantized as an ONNX file with its own scales and zero points.

    NNCF's own way to ONNX keeps batch norms behind convolutions, and weights and biases in float: ONNX Runtime then
    executes every convolution in float, with conversions beside it, slower than the float network. Here the graph is
    rewritten to what it executes in integers, without calibrating anything. The answers stay the same up to the
    rounding of sums that lie between two integers.

    Where only weights have eight bits, the file holds them so, and the runtime makes floats of them when it loads it.

    Args:
        network: what ``nncf.quantize`` gave, or a module that holds it; it is left as it was. Called with ``example``,
            in evaluation mode, it gives a tensor or several.
        example: what it is called with: one tensor per input, batch first.
        path: of the file.
        inputs: their names in the file.
        outputs: names of what it gives.
        axes: by the name of an input, the dimensions that may be of any size, and what to call them; the first, as
            ``batch``, when not given.
        runtime: what is to be fast. TensorRT knows activations around zero only: others keep their range, in steps up
            to twice as wide, so that the answers change by about as much as quantizing has changed them.
        opset: of the file.

    Raises:
        InputError: when NNCF or what writes ONNX is not installed, the network holds no quantizers, or ONNX cannot
            express it.
    """
    for library in ("onnx", "onnx_ir"):
        imported(library, extra="export", needed_by="writing an int8 ONNX file")
    plain = plain_quantizers(network, example)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        written = Path(folder) / "network.onnx"
        try:
            with quiet(), torch.no_grad():
                torch.onnx.export(
                    plain,
                    tuple(example),
                    str(written),
                    dynamo=False,  # the other exporter does not know fake quantization
                    do_constant_folding=not _stores_integers(network),  # or else its weights become floats
                    opset_version=opset,
                    input_names=list(inputs),
                    output_names=list(outputs),
                    dynamic_axes={
                        **(axes or {name: {0: "batch"} for name in inputs}),
                        **{name: {0: "batch"} for name in outputs},
                    },
                )
        except Exception as error:  # each of the exporter's own classes
            raise blamed("ONNX", error, network, example) from error
        _save(_read(written), Path(path), runtime)


def rewrite_qdq(source: str | Path, path: str | Path, *, runtime: Int8Runtime = "onnxruntime") -> None:
    """Write an ONNX file with QuantizeLinear and DequantizeLinear again, as a runtime is fast with.

    Args:
        source: the file; its weights in it.
        path: of the new file; it may be the same.
        runtime: what is to be fast.

    Raises:
        InputError: when it quantizes nothing, or what writes ONNX is not installed.
    """
    model = _read(Path(source))
    if not _quantizes(model):
        raise InputError(
            f"{source} quantizes nothing; a float network becomes int8 by calibration "
            "(understudy.export.onnxruntime_int8)"
        )
    _save(model, Path(path), runtime)


def _read(path: Path) -> Any:
    ir = imported("onnx_ir", extra="export", needed_by="writing an int8 ONNX file")
    passes = imported("onnx_ir.passes.common", extra="export", needed_by="writing an int8 ONNX file")
    model = ir.load(str(path))
    passes.IdentityEliminationPass()(model)
    passes.LiftConstantsToInitializersPass(size_limit=0)(model)
    return model


def _quantizes(model: Any) -> bool:
    return any(node.op_type == "QuantizeLinear" for node in model.graph)


def _save(model: Any, path: Path, runtime: Int8Runtime) -> None:
    """Write a graph, rewritten if it quantizes activations."""
    ir = imported("onnx_ir", extra="export", needed_by="writing an int8 ONNX file")
    passes = imported("onnx_ir.passes.common", extra="export", needed_by="writing an int8 ONNX file")
    for rewrite in _REWRITES[runtime] if _quantizes(model) else ():
        rewrite(model.graph)
    for tidy in (passes.RemoveUnusedNodesPass(), passes.DeduplicateInitializersPass(), passes.TopologicalSortPass()):
        tidy(model)
    _part_zero_points(model.graph)
    passes.CheckerPass()(model)
    with replacing(path) as temporary:
        ir.save(model, str(temporary))


def _part_zero_points(graph: Any) -> None:
    """Give each weight zero points of its own: ONNX Runtime's exact sums (no VNNI) cannot begin with shared ones."""
    taken: set[str] = set()
    for node in nodes_of(graph, "DequantizeLinear"):
        integers, values = node.inputs[0], array(node.inputs[2]) if len(node.inputs) > 2 else None
        if array(integers) is None or values is None:
            continue
        if node.inputs[2].name in taken:
            node.replace_input_with(2, constant(graph, f"{integers.name}.zero_point", values))
        taken.add(node.inputs[2].name)


def plain_quantizers(network: nn.Module, example: Sequence[Tensor]) -> nn.Module:
    """A copy of a network in evaluation mode, in which torch's fake quantization stands for NNCF's.

    Args:
        network: what NNCF has quantized, or a module that holds it.
        example: what it is called with.

    Raises:
        InputError: when NNCF is not installed, or there is nothing of it in the network.
    """
    nncf = nncf_library(needed_by="writing a quantized network")
    network = copy.deepcopy(network).eval()
    quantized = [module for module in network.modules() if is_quantized(module)]
    if not quantized:
        raise InputError(
            "the network holds no quantizers of NNCF; quantize it first, or write it in float and calibrate that file "
            "(understudy.export.onnxruntime_int8)"
        )
    for module in quantized:
        arguments = _arguments_of(module, network, example)
        with quiet():
            nncf.strip(module, do_copy=False, strip_format=nncf.StripFormat.NATIVE, example_input=arguments)
    return network


def _stores_integers(network: nn.Module) -> bool:
    """Whether NNCF has put weights of eight bits into a network, rather than quantizers around floats."""
    layers = imported("nncf.torch.quantization.layers", extra="compress", needed_by="writing a quantized network")
    return any(isinstance(module, layers.BaseWeightsDecompressor) for module in network.modules())


def _arguments_of(module: nn.Module, network: nn.Module, example: Sequence[Tensor]) -> Any:
    """What a network calls one of its modules with, as NNCF takes examples."""
    seen: list[Any] = []

    def keep(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append(named if named and not positional else positional)

    handle = module.register_forward_pre_hook(keep, with_kwargs=True)
    with torch.no_grad():
        network(*example)
    handle.remove()
    if not seen:
        raise InputError("the quantized network is not called by the module that holds it")
    return seen[-1]
