"""Files that other runtimes execute, each proved to answer as the network does."""

from understudy.export.calibrated import onnxruntime_int8
from understudy.export.dynamic import DynamicInt8, dynamic_int8
from understudy.export.exporting import FORMATS, Exported, Format, export
from understudy.export.proof import Proof, RuntimeProof, prove
from understudy.export.qdq import quantized_onnx, rewrite_qdq
from understudy.export.tensorrt import tensorrt_problems, trtexec_line
from understudy.export.transformers_folder import save_for_transformers

__all__ = [
    "FORMATS",
    "DynamicInt8",
    "Exported",
    "Format",
    "Proof",
    "RuntimeProof",
    "dynamic_int8",
    "export",
    "onnxruntime_int8",
    "prove",
    "quantized_onnx",
    "rewrite_qdq",
    "save_for_transformers",
    "tensorrt_problems",
    "trtexec_line",
]
