"""A teacher in an ONNX file, from whatever framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, final

import torch
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError, listing, nearest
from understudy.knowledge import Knowledge
from understudy.runtimes import Port
from understudy.runtimes.onnxruntime import OnnxSession
from understudy.tasks.classification import Classification
from understudy.tasks.task import Task
from understudy.teachers.module import ModuleTeacher
from understudy.teachers.onnx_file import last_operator, onnx_digest, read_onnx

Layout = Literal["auto", "channels_first", "channels_last"]

_ONE = 5e-3
"""How far from 1 probabilities may add up to."""


@final
class OnnxTeacher:
    """A network in an ONNX file, run by ONNX Runtime: on the CPU, or on a GPU where the installed build can.

    It is called as the task calls a model: with one tensor, with a mapping by the names of the graph's inputs, or with
    a tuple in their order. A graph of a fixed batch size is shown that many samples at once, the last ones filled up. A
    graph that takes images as (batch, height, width, channels), as exports from TensorFlow and Keras do, is recognised
    by the shape it declares. Probabilities are recognised by a softmax at the end of the graph, or by the first answer,
    and their logarithm is handed on as logits, those below the smallest positive number of their type as that number.

    Args:
        path: the file; data beside it that it refers to are found from there.
        task: how a model is called and read; classification when not given.
        output: which output holds the logits; the one called ``logits``, or else the first of floating point, when not
            given.
        layout: how the graph takes images.
        probabilities: whether the output holds probabilities; found out when not given.
        mean: subtracted from each channel of the first input of floating point, for a graph that does not normalise
            its inputs itself; one value, or one per channel.
        std: each channel is then divided by it.

    Raises:
        InputError: when the file is missing, broken or incomplete, ONNX Runtime is not installed, or there is no such
            output.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        task: Task | None = None,
        output: str | None = None,
        layout: Layout = "auto",
        probabilities: bool | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        self.path = Path(path)
        if (mean is None) != (std is None):
            raise InputError("an input is normalised by its `mean` and its `std`; expected both or neither")
        normalisation = _normalisation(mean, std)
        model = read_onnx(self.path)
        network = _Network(self.path, layout, normalisation)
        self.output = _chosen(network.session.outputs, output)
        network.output = self.output.name
        end = last_operator(model, self.output.name)
        if probabilities is None and end == "Sigmoid":
            raise InputError(
                f"{self.path} ends in a sigmoid for each class, so its classes do not exclude each other; expected "
                "logits or probabilities. Give the `output` before it, or probabilities=True to take them as such"
            )
        settings = {"output": output, "layout": layout, "probabilities": probabilities, "mean": mean, "std": std}
        unusual = [item for item in settings.items() if item[1] not in (None, "auto")]
        self._told, self._checked = probabilities, False
        self.probabilities: bool | None = True if probabilities is None and end == "Softmax" else probabilities
        self.identity = onnx_digest(self.path, model, unusual)
        self._network = network
        self._answering = ModuleTeacher(network, task=task or Classification())

    @property
    def classes(self) -> int | None:
        """How many classes it declares; None when the graph does not say."""
        return self.output.shape[-1] if self.output.shape else None

    def describe(self) -> str:
        """One line for people: what goes in, what comes out, and how that is read."""
        ports = ", ".join(map(str, self._network.session.inputs))
        found = "" if self._told is not None else " (found out)"
        kinds = {True: f"probabilities{found}, whose logarithm is taken", False: "logits", None: "logits, so far"}
        return f"{self.path.name}: from {ports} to {self.output}, read as {kinds[self.probabilities]}"

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> Knowledge:
        """The logits of a batch, on its device.

        Raises:
            InputError: when layers are asked for, or the graph cannot take the batch.
        """
        if taps:
            raise InputError(
                f"{self.path} is an ONNX file, of which no layers can be read, asked for {listing(list(taps))}. Use "
                "terms on logits, or the teacher as a PyTorch model"
            )
        answer = self._answering.observe(batch)
        if self.probabilities is None:
            self.probabilities = _are_distributions(answer.logits)
        if not self.probabilities:
            return answer
        return Knowledge(self._logarithm(answer.logits), mask=answer.mask, tokens=answer.tokens)

    def _logarithm(self, values: Tensor) -> Tensor:
        if not self._checked and not _are_distributions(values):
            sums = values.sum(-1)
            raise InputError(
                f"output {self.output.name!r} of {self.path} is read as probabilities, and a row has values from "
                f"{float(values.min()):.3g} to {float(values.max()):.3g} and a sum of {float(sums.flatten()[0]):.3g}; "
                "expected none below 0, and a sum of 1. Say probabilities=False, or choose another output"
            )
        self._checked = True
        return values.clamp_min(torch.finfo(values.dtype).tiny).log()


@final
class _Network(nn.Module):
    """The graph, called like a network. It has no parameters, and stays where ONNX Runtime put it."""

    def __init__(self, path: Path, layout: Layout, normalisation: tuple[Tensor, Tensor] | None) -> None:
        super().__init__()
        self.path, self.normalisation = path, normalisation
        self.layout: Layout = layout
        self.device = torch.device("cpu")
        self.session = OnnxSession(path, self.device)
        self.output = ""
        self._moved: dict[tuple[str, torch.Size, torch.dtype], bool] = {}

    def forward(self, *positional: Tensor, **named: Tensor) -> Tensor:
        """One output, on the device of the inputs."""
        given = self._by_name(positional, named)
        first = next(iter(given.values()))
        if first.device != self.device:
            self.device = first.device
            if self.device.type != "cpu":
                self.session = OnnxSession(self.path, self.device)
        if self.normalisation is not None:
            given = self._normalised(given, *self.normalisation)
        ready = {port.name: self._fitted(port, given[port.name]) for port in self.session.inputs}
        answer = self._in_parts(ready, len(first))
        if len(answer) != len(first):
            raise InputError(
                f"output {self.output!r} of {self.path} has the shape {tuple(answer.shape)} for {len(first)} samples; "
                "expected a row for each. Choose another `output`"
            )
        return answer.to(self.device)

    def _by_name(self, positional: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        ports = self.session.inputs
        if named:
            missing = [port.name for port in ports if port.name not in named]
            if missing:
                raise InputError(
                    f"{self.path} needs the inputs {listing([port.name for port in ports])}, and the batch has "
                    f"{listing(list(named))}. Export it with the batch's names"
                )
            return {port.name: named[port.name] for port in ports}
        if len(positional) != len(ports):
            raise InputError(
                f"{self.path} needs {len(ports)} inputs ({'; '.join(map(str, ports))}), and the batch has "
                f"{len(positional)}"
            )
        return {port.name: tensor for port, tensor in zip(ports, positional, strict=True)}

    def _normalised(self, given: dict[str, Tensor], mean: Tensor, std: Tensor) -> dict[str, Tensor]:
        name = next((name for name, tensor in given.items() if tensor.is_floating_point()), None)
        if name is None:
            return given
        inputs = given[name]
        if len(mean) not in (1, inputs.shape[1]):
            raise InputError(f"mean and std have {len(mean)} values, and the inputs {inputs.shape[1]} channels")
        shape = (1, -1) + (1,) * (inputs.ndim - 2)
        mean, std = (each.to(inputs).view(shape) for each in (mean, std))
        return {**given, name: (inputs - mean) / std}

    def _fitted(self, port: Port, tensor: Tensor) -> Tensor:
        """The tensor as an input takes it."""
        key = (port.name, tensor.shape[1:], tensor.dtype)
        if key not in self._moved:
            self._moved[key] = _goes_last(port, tensor, self.layout, str(self.path))
        assert port.dtype is not None  # or else it was refused
        return (tensor.movedim(1, -1) if self._moved[key] else tensor).to(port.dtype)

    def _in_parts(self, ready: dict[str, Tensor], count: int) -> Tensor:
        """The answer to all samples, asked as many at once as the graph takes."""
        fixed = {port.shape[0] for port in self.session.inputs if port.shape and port.shape[0] is not None}
        size = next(iter(fixed), count)
        if size == count:
            return self.session.run([self.output], ready)[0]
        parts = []
        for start in range(0, count, size or 1):
            part = {name: _filled(tensor[start : start + (size or 1)], size or 1) for name, tensor in ready.items()}
            parts.append(self.session.run([self.output], part)[0])
        return torch.cat(parts)[:count]


def _filled(rows: Tensor, size: int) -> Tensor:
    """As many rows as asked for, the last one over and over."""
    missing = size - len(rows)
    return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])]) if missing else rows


def _goes_last(port: Port, tensor: Tensor, layout: Layout, whose: str) -> bool:
    """Whether the channels have to become the last dimension.

    Raises:
        InputError: when the input takes the tensor in no layout, or in both.
    """
    if port.dtype is None or port.dtype.is_floating_point != tensor.is_floating_point():
        hint = "; images are numbers from 0 to 1 here" if tensor.is_floating_point() else ""
        raise InputError(f"{whose} takes {port}, and the batch is {tensor.dtype}{hint}. Export it with that type")
    ways: dict[Layout, Sequence[int]] = {"channels_first": tensor.shape}
    if tensor.is_floating_point() and (tensor.ndim == 4 or (tensor.ndim > 2 and layout == "channels_last")):
        ways["channels_last"] = (len(tensor), *tensor.shape[2:], tensor.shape[1])
    if layout in ways:
        ways = {layout: ways[layout]}
    fitting = [way for way, shape in ways.items() if _takes(port, shape)]
    if len(fitting) > 1:
        raise InputError(
            f"{whose} takes {port}, which fits the batch's {tuple(tensor.shape)} as (batch, channels, height, width) "
            "and as (batch, height, width, channels); say layout='channels_first' or layout='channels_last'"
        )
    if not fitting:
        raise InputError(
            f"{whose} takes {port}, and the batch has the shape {tuple(tensor.shape)}; expected the same sizes. Give "
            "the data that size, or export the file for this one (or for any, with dynamic axes)"
        )
    return fitting == ["channels_last"]


def _takes(port: Port, shape: Sequence[int]) -> bool:
    """Whether an input takes samples of a shape; the number of samples is seen to elsewhere."""
    if not port.shape:
        return True
    return len(port.shape) == len(shape) and all(
        declared in (None, size) for declared, size in zip(port.shape[1:], shape[1:], strict=True)
    )


def _are_distributions(values: Tensor) -> bool:
    """Whether each row holds probabilities of classes that exclude each other."""
    sums = values.sum(-1, dtype=torch.float32)
    return values.shape[-1] > 1 and bool((values >= 0).all() and ((sums - 1).abs() <= _ONE).all())


def _normalisation(mean: Sequence[float] | None, std: Sequence[float] | None) -> tuple[Tensor, Tensor] | None:
    if mean is None or std is None:
        return None
    if len(mean) != len(std) or not len(mean) or not all(value > 0 for value in std):
        raise InputError(f"mean={list(mean)} and std={list(std)}; expected equally many values, those of std above 0")
    return torch.tensor(mean, dtype=torch.float32), torch.tensor(std, dtype=torch.float32)


def _chosen(outputs: Sequence[Port], name: str | None) -> Port:
    """The output with the logits."""
    by_name = {port.name: port for port in outputs}
    if name is not None and name not in by_name:
        known = nearest(name, by_name) or f"; there are {listing(list(by_name))}"
        raise InputError(f"the ONNX graph has no output {name!r}{known}")
    numbers = [port for port in outputs if port.dtype is not None and port.dtype.is_floating_point]
    chosen = by_name[name if name is not None else "logits"] if name is not None or "logits" in by_name else None
    if chosen is None and numbers:
        chosen = numbers[0]
    if chosen is None or chosen not in numbers:
        raise InputError(
            f"the outputs of the ONNX graph are {'; '.join(map(str, outputs))}; expected logits or probabilities in a "
            "tensor of floating point. A classifier of scikit-learn is to be exported with zipmap=False"
        )
    return chosen
