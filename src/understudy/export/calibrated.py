"""Int8 ONNX files of float ones, calibrated by ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from understudy.errors import InputError
from understudy.extras import imported
from understudy.files import replacing
from understudy.foreign import quiet, reason
from understudy.runtimes.onnxruntime import OnnxSession
from understudy.runtimes.session import Port

_NEEDED_BY = "calibrating an int8 ONNX file"


def onnxruntime_int8(
    source: str | Path, batches: Iterable[Sequence[Tensor]], path: str | Path, *, reduce_range: bool = False
) -> None:
    """Write a float ONNX file in int8, with ranges that ONNX Runtime takes from batches.

    Activations get unsigned bytes with the range from the least to the largest value seen, weights signed bytes with a
    scale per output channel, biases 32 bits: the form that ONNX Runtime executes in integers, also behind activations
    such as SiLU, where NNCF's networks stay in float. Nothing is trained, and biases are not corrected; a network that
    NNCF has quantized keeps its own ranges in :func:`understudy.export.qdq.quantized_onnx`.

    Args:
        source: the float file. What it says about itself is kept.
        batches: some hundred samples, like those to come, of any batch size: for each batch one tensor per input, in
            the file's order.
        path: of the new file.
        reduce_range: whether weights get seven bits, for CPUs without VNNI, on which sums of eight bits may
            overflow.

    Raises:
        InputError: when ONNX Runtime is not installed, there are no batches, one does not fit the file's inputs, or
            the file cannot be quantized.
    """
    quantization = imported("onnxruntime.quantization", extra="export", needed_by=_NEEDED_BY)
    onnx = imported("onnx", extra="export", needed_by=_NEEDED_BY)
    source = Path(source)
    ports = OnnxSession(source, torch.device("cpu")).inputs
    reader = _Reader(_checked(batches, ports))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, replacing(Path(path)) as temporary:
        prepared, written = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        try:
            with quiet():
                quantization.shape_inference.quant_pre_process(str(source), str(prepared))
                quantization.quantize_static(
                    str(prepared),
                    str(written),
                    reader,
                    quant_format=quantization.QuantFormat.QDQ,
                    activation_type=quantization.QuantType.QUInt8,
                    weight_type=quantization.QuantType.QInt8,
                    per_channel=True,
                    reduce_range=reduce_range,
                )
        except InputError:
            raise
        except Exception as error:  # each of its parts raises its own
            raise InputError(f"{source} cannot be quantized by ONNX Runtime: {reason(error)}") from error
        model, before = onnx.load(written), onnx.load(source, load_external_data=False)
        onnx.helper.set_model_props(model, {each.key: each.value for each in before.metadata_props})
        onnx.save(model, temporary)


@final
class _Reader:
    """Batches as ONNX Runtime asks for them, which looks for nothing but this method."""

    def __init__(self, batches: Iterator[dict[str, Any]]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, Any] | None:
        """The next batch; None after the last."""
        return next(self._batches, None)


def _checked(batches: Iterable[Sequence[Tensor]], ports: Sequence[Port]) -> Iterator[dict[str, Any]]:
    """Batches by the names of the inputs; the first is looked at now."""
    found = (_fitting(batch, ports, number) for number, batch in enumerate(batches))
    first = next(found, None)
    if first is None:
        raise InputError("there are no batches to calibrate with; expected some hundred samples")
    return chain([first], found)


def _fitting(batch: Sequence[Tensor], ports: Sequence[Port], number: int) -> dict[str, Any]:
    given = ", ".join(f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}" for tensor in batch)
    if len(batch) != len(ports) or not all(_fits(tensor, port) for tensor, port in zip(batch, ports, strict=True)):
        expected = ", ".join(map(str, ports))
        raise InputError(f"calibration batch {number}: the file takes {expected}; got {given or 'nothing'}")
    return {port.name: tensor.detach().cpu().numpy() for port, tensor in zip(ports, batch, strict=True)}


def _fits(tensor: Tensor, port: Port) -> bool:
    return (
        tensor.dtype == port.dtype
        and tensor.ndim == len(port.shape)
        and all(size in (None, given) for size, given in zip(port.shape, tensor.shape, strict=True))
    )
