"""Milliseconds per picture of int8 files beside float ones and PyTorch: ResNet-18 and MobileNetV2 at 224×224.

    python benchmarks/int8_time.py

One picture at a time, two threads, in one run. PyTorch: eager, compiled, in bfloat16. Float files: ONNX Runtime,
OpenVINO, ExecuTorch where it is installed. Int8: NNCF quantizes once, and its scales go into the file that Understudy
writes for ONNX Runtime, into what NNCF's own way to ONNX ends in ("NNCF's graph"), and into OpenVINO's; beside them
what ONNX Runtime calibrates itself. Goal: int8 on its best runtime at least 3 times as fast as eager PyTorch, on
ResNet-18. Weights and pixels are random: they take as long as real ones. About 5 minutes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from contest import arguments, case, compare, finish, in_turns, warn_if_busy
from torch import Tensor, nn
from torchvision.models import mobilenet_v2, resnet18
from torchvision.models.resnet import BasicBlock, ResNet

import understudy as us
from understudy.compress.quantization import quantize
from understudy.export.calibrated import onnxruntime_int8
from understudy.export.executorch import write_executorch
from understudy.export.onnx import write_onnx
from understudy.export.openvino import write_openvino
from understudy.export.qdq import plain_quantizers
from understudy.export.traced import traced
from understudy.foreign import quiet
from understudy.measure.latency import latency
from understudy.runtimes import Card, FileInput
from understudy.runtimes.opening import open_model

EAGER = "PyTorch eager"
OPSET = 18
FAR = {"float": 0.01, "bfloat16": 0.2, "int8": 1.0}
"""How far answers may be from eager PyTorch's, in units of their spread."""

options = arguments(__doc__.partition("\n")[0])
rounds, seconds, size, threads = (7, 1.0, 224, 2) if not options.quick else (2, 0.001, 32, 1)
has_executorch = find_spec("executorch") is not None
load_before = warn_if_busy()
torch.set_num_threads(threads)


def with_statistics(network: nn.Module) -> nn.Module:
    """The network with batch norms that have seen pixels, as after a training."""
    with torch.no_grad():
        for _ in range(4):
            network.train()(torch.rand(8, 3, size, size))
    return network.eval()


def nncfs_graph(network: nn.Module, picture: Tensor, path: Path) -> None:
    """What ``nncf.strip`` and ``torch.onnx.export`` give."""
    with quiet(), torch.no_grad():
        plain = plain_quantizers(network, [picture])
        torch.onnx.export(plain, (picture,), str(path), dynamo=False, opset_version=OPSET, input_names=["input"])


def contenders(network: nn.Module, picture: Tensor, folder: Path) -> dict[str, nn.Module]:
    """Every way to run the network."""
    task, batches = us.ImageClassification(), [torch.rand(8, 3, size, size) for _ in range(4)]
    shape = FileInput(name="input", shape=(3, size, size), dtype="float32")
    names = tuple(map(str, range(1000)))
    card = Card(understudy=us.__version__, task=task.kind, classes=names, inputs=(shape,)).model_dump_json(
        by_alias=True
    )
    int8 = quantize(network, batches, task=task).network
    float_graph, int8_graph = traced(network, picture, task), traced(int8, picture, task)
    files = {name: folder / name for name in ("float.onnx", "int8.onnx", "plain.onnx", "calibrated.onnx", "float.pte")}
    files |= {name: folder / name for name in ("float.xml", "int8.xml")}
    write_onnx(float_graph, files["float.onnx"], card)
    write_onnx(int8_graph, files["int8.onnx"], card)
    nncfs_graph(int8, picture, files["plain.onnx"])
    onnxruntime_int8(files["float.onnx"], ([batch] for batch in batches), files["calibrated.onnx"])
    write_openvino(float_graph, files["float.xml"], card)
    write_openvino(int8_graph, files["int8.xml"], card)
    opened: Callable[..., nn.Module] = partial(open_model, threads=threads)
    found: dict[str, nn.Module] = {
        EAGER: network,
        "PyTorch eager, bfloat16": Bfloat16(network).eval(),
        "ONNX Runtime float": opened(files["float.onnx"], runtime="onnxruntime"),
        "ONNX Runtime int8": opened(files["int8.onnx"], runtime="onnxruntime"),
        "ONNX Runtime int8, NNCF's graph": opened(files["plain.onnx"], runtime="onnxruntime"),
        "ONNX Runtime int8, calibrated": opened(files["calibrated.onnx"], runtime="onnxruntime"),
        "OpenVINO float": opened(files["float.xml"], runtime="openvino"),
        "OpenVINO int8": opened(files["int8.xml"], runtime="openvino"),
        "OpenVINO int8, from ONNX": opened(files["int8.onnx"], runtime="openvino"),
    }
    if has_executorch:
        write_executorch(float_graph, files["float.pte"], card)
        found["ExecuTorch float"] = opened(files["float.pte"], runtime="executorch")
    if not options.quick:  # compiling takes minutes
        found["PyTorch compiled"] = torch.compile(network)
    return found


class Bfloat16(nn.Module):
    """A network that computes in bfloat16."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        with torch.autocast("cpu", torch.bfloat16):
            return self.network(x)


def far_apart(found: dict[str, nn.Module], picture: Tensor) -> dict[str, float]:
    """How far each contender's answer is from eager PyTorch's; the script stops where that is too far."""
    with torch.no_grad():
        answers = {name: model(picture).float() for name, model in found.items()}
    expected = answers[EAGER]
    apart = {name: float((answer - expected).abs().max() / expected.std()) for name, answer in answers.items()}
    for name, distance in apart.items():
        kind = next((kind for kind in ("int8", "bfloat16") if kind in name), "float")
        if not distance <= FAR[kind]:
            raise SystemExit(f"{name} answers something else: {distance:.2g} of the spread of the logits away")
    return apart


def milliseconds(model: nn.Module, picture: Tensor) -> float:
    return latency(model, picture, threads=threads, seconds=seconds).median_ms


def table_of(title: str, network: nn.Module, *, at_least: float | None) -> dict[str, Any]:
    """All contenders on one network."""
    picture = torch.rand(1, 3, size, size)
    with tempfile.TemporaryDirectory() as folder:
        found = contenders(with_statistics(network), picture, Path(folder))
        apart = far_apart(found, picture)
        figures = in_turns({name: partial(milliseconds, model, picture) for name, model in found.items()}, rounds)
    table = case(title, "ms per picture", figures, apart=apart)
    best = min((name for name in figures if "int8" in name), key=table["medians"].__getitem__)
    for name in figures:
        if name != EAGER:
            compare(table, EAGER, name, at_least=at_least if name == best else None)
    return table


torch.manual_seed(0)
if options.quick:
    tables = [table_of(f"small ResNet, {size}×{size}", ResNet(BasicBlock, [1, 1, 1, 1]), at_least=3.0)]
else:
    tables = [
        table_of(f"ResNet-18, {size}×{size}", resnet18(), at_least=3.0),
        table_of(f"MobileNetV2, {size}×{size}", mobilenet_v2(), at_least=None),
    ]
finish(
    "int8_time",
    options,
    tables,
    threads=threads,
    weights="random",
    left_out=[] if has_executorch else ["executorch (not installed)"],
    load_before=load_before,
)
