"""A frozen network that something else than PyTorch's eager mode executes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from understudy.batch import Batch, tensors_of
from understudy.errors import InputError
from understudy.extras import imported
from understudy.foreign import converting
from understudy.knowledge import Knowledge
from understudy.runtimes.flattening import Answer, Call, arguments_in
from understudy.runtimes.onnxruntime import OnnxSession
from understudy.runtimes.openvino import OpenVinoSession
from understudy.taps import unwrapped
from understudy.tasks.task import Task
from understudy.teachers.module import ModuleTeacher
from understudy.tokenizing import are_texts, tokenization_of

TOLERANCE = 1e-3
"""How far a logit may be from that of eager PyTorch, in units of the logits' spread."""


@final
class RuntimeTeacher:
    """A live network whose answers another execution of it gives.

    Layers, batches on another device and samples of another shape are the network's own to answer; texts may have any
    length. It is what the doctor watches and what identifies the teacher: the other execution only rounds differently,
    by no more than :data:`TOLERANCE` where :func:`understudy.fastest_teacher` has chosen it. It has a copy of the
    weights, which does not follow if somebody changes those of the network.

    Args:
        live: the network as a teacher.
        fast: the same network, executed otherwise.
        runtime: what executes it, in words.
        example: a batch like those to come.
        note: one line about how it was chosen.
    """

    def __init__(
        self, live: ModuleTeacher, fast: ModuleTeacher, *, runtime: str, example: Batch, note: str = ""
    ) -> None:
        self.live, self.fast, self.runtime, self.note = live, fast, runtime, note
        self._kind = _kind(example)

    @property
    def module(self) -> nn.Module:
        """The network itself."""
        return self.live.module

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> Knowledge:
        """Logits and tapped features of the network, without gradients.

        Raises:
            InputError: for a layer that the network does not have.
        """
        answering = self.live if taps or _kind(batch) != self._kind else self.fast
        return answering.observe(batch, taps)


def disagreement(expected: Tensor, received: Tensor) -> float:
    r"""How far two answers are apart, in units of the spread of the first.

    .. math:: \max_{ik} |z_{ik} - z'_{ik}| \Big/ \sqrt{\tfrac{1}{N K} \sum_{ik} (z_{ik} - \bar z_i)^2}

    Below :data:`TOLERANCE` the likeliest class can differ only where two are that near to each other. A single number
    for each sample is taken from the mean over the samples instead, or from zero where all are the same. Infinite for
    answers of different shapes, or that are not finite.

    Args:
        expected: logits (..., classes).
        received: the same from another execution.
    """
    if expected.shape != received.shape or not received.isfinite().all():
        return float("inf")
    expected, received = expected.detach().double(), received.detach().double()
    farthest = (expected - received).abs().max()
    return float(farthest / _spread(expected)) if farthest > 0 else 0.0


def far_apart(expected: Tensor, received: Tensor, *, by: float) -> float:
    """The part of the samples whose answers are farther apart than some part of their spread (root mean square).

    Args:
        expected: (samples, numbers).
        received: the same from another execution.
        by: how far, in units of the spread.
    """
    expected, received = expected.detach().double(), received.detach().double()
    distances = (expected - received).square().mean(-1).sqrt()
    return float((distances > by * _spread(expected)).double().mean())


def _spread(answers: Tensor) -> Tensor:
    """The root of the mean square of what answers differ by, those to one sample or, of one number, to all."""
    mean = answers.mean(-1, keepdim=True) if answers.shape[-1] > 1 else answers.mean()
    spread = (answers - mean).square().mean().sqrt()
    return spread if spread > 0 or answers.shape[-1] > 1 else answers.square().mean().sqrt()


def openvino_network(module: nn.Module, example: Batch, task: Task) -> nn.Module:
    """A copy of a network that OpenVINO executes on the CPU, in float32, for batches of any size.

    Args:
        module: the network; it is left as it was.
        example: two samples or more, on the CPU.
        task: how the network is called.

    Raises:
        InputError: when OpenVINO is not installed, or cannot convert the network.
    """
    _check_on_cpu(example, "OpenVINO")
    openvino = imported("openvino", extra="export", needed_by="executing a network with OpenVINO")
    call = _call(module, example, task)
    with converting("OpenVINO"):
        model = openvino.convert_model(call.flat, example_input=tuple(call.tensors))
        for port, tensor in zip(model.inputs, call.tensors, strict=True):
            sizes = [-1] * tensor.ndim if are_texts(example.inputs) else [-1, *tensor.shape[1:]]
            port.get_node().set_partial_shape(openvino.PartialShape(sizes))
        model.validate_nodes_and_infer_types()
        session = OpenVinoSession(model, shares=True)
    return _reading(_Foreign(session.call, call.answer), module)


def onnxruntime_network(module: nn.Module, example: Batch, task: Task) -> nn.Module:
    """A copy of a network that ONNX Runtime executes, for batches of any size.

    Args:
        module: the network; it is left as it was.
        example: two samples or more, on the device where it is to answer.
        task: how the network is called.

    Raises:
        InputError: when ONNX Runtime or what exports to it is not installed, or cannot convert the network.
    """
    for library in ("onnxruntime", "onnxscript"):
        imported(library, extra="export", needed_by="executing a network with ONNX Runtime")
    call = _call(module, example, task)
    with converting("ONNX"), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "network.onnx"
        changing = (0, 1) if are_texts(example.inputs) else (0,)
        sizes = tuple(dict.fromkeys(changing, torch.export.Dim.DYNAMIC) for _ in call.tensors)
        program = torch.onnx.export(call.flat, tuple(call.tensors), dynamo=True, dynamic_shapes=(sizes,), verbose=False)
        assert program is not None  # there is none only without dynamo
        program.save(path)
        session = OnnxSession(path, example.device)

    def run(tensors: list[Tensor]) -> list[Tensor]:
        return [answer.to(tensors[0].device) for answer in session.call(tensors)]

    return _reading(_Foreign(run, call.answer), module)


def _kind(batch: Batch) -> tuple[torch.device, list[tuple[torch.Size, torch.dtype]]]:
    """In what two batches are alike that only differ in their samples; texts may be of any length."""
    if are_texts(batch.inputs):
        return batch.device, []
    return batch.device, [(tensor.shape[1:], tensor.dtype) for tensor in tensors_of(batch.inputs)]


def _call(module: nn.Module, example: Batch, task: Task) -> Call:
    return Call(unwrapped(module), lambda network: task.observe(network, example))


def _check_on_cpu(example: Batch, what: str) -> None:
    if example.device.type != "cpu":
        raise InputError(f"{what} runs on the CPU, and the batches are on {example.device}")


def _reading(foreign: nn.Module, module: nn.Module) -> nn.Module:
    """A network that makes tokens of texts as another one does."""
    tokenization = tokenization_of(module)
    if tokenization is not None:
        foreign.register_forward_pre_hook(tokenization, with_kwargs=True)
    return foreign


class _Foreign(nn.Module):
    """A network that another runtime executes, called like the network itself. It has no parameters."""

    def __init__(self, run: Callable[[list[Tensor]], list[Tensor]], answer: Answer) -> None:
        super().__init__()
        self.run, self.answer = run, answer

    def forward(self, *positional: Any, **named: Any) -> Any:
        return self.answer.of(self.run(arguments_in(positional, named)))
