"""A network as converters want it: flat, on the CPU, with sizes that may change."""

from __future__ import annotations

import copy
import io
import warnings
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.edits.nncf_library import is_quantized
from understudy.errors import InputError
from understudy.export.blame import blamed, decisions_in, of_decisions, undecidable
from understudy.foreign import quiet
from understudy.runtimes.flattening import Call
from understudy.sources.forward import moved, resized
from understudy.taps import unwrapped
from understudy.tasks.task import Task
from understudy.tokenizing import are_texts, bytes_of, network_inputs

_SAMPLES = 2
"""In the example that is traced; one alone would be taken for a size that never changes."""
Sizes = tuple[dict[int, Any], ...]


@dataclass(frozen=True)
class Traced:
    """A network, seen once.

    Attributes:
        flat: from tensors to one tensor of logits, in eval mode, in float32, on the CPU.
        tensors: two samples of its inputs.
        names: of these.
        tokens: whether the second dimension of every input may change too, such as the length of a text.
    """

    flat: nn.Module
    tensors: tuple[Tensor, ...]
    names: tuple[str, ...]
    tokens: bool

    @property
    def recurrent(self) -> bool:
        """Whether it has recurrent layers, whose loops only tracing by running keeps as they are."""
        return any(isinstance(layer, nn.RNNBase) for layer in self.flat.modules())

    @property
    def quantized(self) -> bool:
        """Whether NNCF has quantized it."""
        return any(is_quantized(layer) for layer in self.flat.modules())

    def axes(self) -> dict[str, dict[int, str]]:
        """The names of the dimensions that may change, by the name of the input, as ONNX has them."""
        changing = {0: "batch", 1: "tokens"} if self.tokens else {0: "batch"}
        return dict.fromkeys(self.names, changing)


class Logits(nn.Module):
    """One of the tensors that a flat network gives.

    Args:
        flat: the network.
        place: which of them.
    """

    def __init__(self, flat: nn.Module, place: int) -> None:
        super().__init__()
        self.flat, self.place = flat, place

    def forward(self, *tensors: Tensor) -> Tensor:
        """The logits."""
        return self.flat(*tensors)[self.place]


def traced(model: nn.Module, example: Any, task: Task) -> Traced:
    """See how a task calls a network.

    Args:
        model: wrappers are looked through; it is left as it was.
        example: a batch's inputs, one sample or more.
        task: how the network is called.

    Raises:
        InputError: when the network cannot be called with the example.
    """
    module = copy.deepcopy(unwrapped(model)).cpu().float().eval()
    batch = Batch(inputs=_of_several_tokens(module, resized(moved(example, "cpu"), _SAMPLES)))
    try:
        call = Call(module, lambda network: task.observe(network, batch))
        with torch.no_grad():
            expected = task.observe(module, batch).logits
            answers = call.flat(*call.tensors)
    except InputError:
        raise
    except Exception as error:  # somebody's network
        raise InputError(f"the network cannot be called with the example: {error}") from error
    place = next((number for number, answer in enumerate(answers) if _reads(task, batch, answer, expected)), 0)
    tensors = tuple(call.tensors)
    return Traced(Logits(call.flat, place).eval(), tensors, tuple(call.names), tokens=_has_tokens(tensors))


@final
class _Says(nn.Module):
    """A network that always gives one answer."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, *_positional: Any, **_named: Any) -> Tensor:
        return self.answer


def _reads(task: Task, batch: Batch, answer: Tensor, expected: Tensor) -> bool:
    """Whether a task reads these logits off a tensor."""
    try:
        return torch.equal(task.observe(_Says(answer), batch).logits, expected)
    except InputError:  # a tensor of another shape
        return False


def program_of(
    network: Traced, *, what: str, most: tuple[int, int] | None = None
) -> tuple[torch.export.ExportedProgram, bool]:
    """The network's operations, as ``torch.export`` sees them.

    Args:
        network: what to trace.
        what: it becomes, for errors.
        most: how many samples, and how many tokens, it is to be able to take; any number when not given.

    Returns:
        The program, and whether the number of tokens may change in it.

    Raises:
        InputError: when it decides by the values of its inputs, or cannot be traced, naming the layer.
    """
    try:
        return _program(network, most, tokens=network.tokens), network.tokens
    except Exception as first:  # of many classes
        if not network.tokens or of_decisions(first):
            raise blamed(what, first, network.flat, network.tensors) from first
    try:
        return _program(network, most, tokens=False), False
    except Exception as error:
        raise blamed(what, error, network.flat, network.tensors) from error


def _program(network: Traced, most: tuple[int, int] | None, *, tokens: bool) -> torch.export.ExportedProgram:
    if most is None:
        sizes = (torch.export.Dim.DYNAMIC, torch.export.Dim.DYNAMIC)
    else:
        sizes = (torch.export.Dim("batch", min=1, max=most[0]), torch.export.Dim("tokens", min=1, max=most[1]))
    dimensions = {0: sizes[0], 1: sizes[1]} if tokens else {0: sizes[0]}
    # NNPACK takes batches of a certain size only, which would become a limit of the program.
    with quiet(), torch.no_grad(), torch.backends.nnpack.flags(enabled=False), redirect_stderr(io.StringIO()):
        return torch.export.export(
            network.flat, network.tensors, dynamic_shapes=(tuple(dimensions for _ in network.tensors),)
        )


def refuse_decisions(seen: list[warnings.WarningMessage], what: str, network: Traced) -> None:
    """Refuse a network that was traced by running it, and decided by the values of its inputs meanwhile.

    Args:
        seen: what torch warned of.
        what: it was converted to.
        network: what was traced.

    Raises:
        InputError: naming the layer; the file would have kept the branch of the example for ever.
    """
    decisions = decisions_in(network.flat, network.tensors)
    lines = {(warning.filename, warning.lineno) for warning in seen if warning.category.__name__ == "TracerWarning"}
    for line, layer in decisions.items():
        if line in lines:  # torch warns of questions about sizes too, which every file answers anew
            raise undecidable(what, layer)


def _of_several_tokens(module: nn.Module, inputs: Any) -> Any:
    """Texts of more than one token, whose number would be taken for one that never changes."""
    tokens = network_inputs(module, inputs)
    if not are_texts(inputs) or tokens["input_ids"].shape[1] > 1:
        return inputs
    return bytes_of(["a few words"] * _SAMPLES)


def _has_tokens(tensors: tuple[Tensor, ...]) -> bool:
    """Whether inputs are (batch, tokens) whole numbers, or (batch, time, channels)."""
    return all(
        tensor.ndim == 3 if tensor.is_floating_point() else tensor.ndim == 2 and tensor.shape[1] > 1
        for tensor in tensors
    )
