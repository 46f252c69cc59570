"""What one sample of a model looks like, and how it is made of what people send."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from understudy.errors import InputError
from understudy.runtimes import Card, Port
from understudy.serving.expected import Expected
from understudy.serving.uploads import Kind, read_array, read_json
from understudy.sources.artifact_record import AnyInputShape, InputShape

Sample = Any
"""The inputs of one sample, without the batch: a tensor, or a tuple or mapping of them."""


@dataclass(frozen=True)
class Piece:
    """A sample that is not read yet.

    Attributes:
        name: what errors call it.
        make: reads it, and raises :class:`InputError` when it is not as expected.
        pixels: that have to be decoded for that: a small file may hold a large image. Infinite where not known.
    """

    name: str
    make: Callable[[], Sample]
    pixels: float = 0


@dataclass(frozen=True)
class SampleForm:
    """What one sample is.

    Attributes:
        tensors: of the model's inputs.
        layout: whether the model is called with one tensor, with several in order, or with several by name.
        names: of the inputs, where they are called by name.
    """

    tensors: tuple[Expected, ...]
    layout: Literal["tensor", "tuple", "mapping"] = "tensor"
    names: tuple[str, ...] = ()

    @classmethod
    def of_texts(cls) -> SampleForm:
        """Of a model that makes its own tokens."""
        return cls((Expected((None,), torch.uint8, text=True),))

    @classmethod
    def of_record(cls, inputs: AnyInputShape) -> SampleForm:
        """From what a saved model's record says."""
        if isinstance(inputs, InputShape):
            return cls((_of_record(inputs),))
        if isinstance(inputs, Mapping):
            return cls(tuple(map(_of_record, inputs.values())), "mapping", tuple(inputs))
        return cls(tuple(map(_of_record, inputs)), "tuple")

    @classmethod
    def of_card(cls, card: Card) -> SampleForm:
        """From what an exported file says about itself."""
        if card.tokens is not None:
            return cls.of_texts()
        pixels = card.task == "image_classification"
        tensors = tuple(Expected(each.shape, getattr(torch, each.dtype), pixels) for each in card.inputs)
        return cls(tensors) if len(tensors) == 1 else cls(tensors, "mapping", tuple(each.name for each in card.inputs))

    @classmethod
    def of_ports(cls, ports: Sequence[Port]) -> SampleForm:
        """From the inputs of a graph that says nothing about itself.

        Raises:
            InputError: when an input is no tensor with a batch of samples.
        """
        for port in ports:
            if port.dtype is None or not port.shape:
                raise InputError(f"its input {port} does not say what goes in; export the model with Understudy")
        tensors = tuple(Expected(port.shape[1:], port.dtype or torch.float32) for port in ports)
        return cls(tensors) if len(tensors) == 1 else cls(tensors, "mapping", tuple(port.name for port in ports))

    def read(self, data: bytes, kind: Kind, *, whose: str = "input") -> list[Sample]:
        """The samples in a file.

        Args:
            data: its content.
            kind: an encoded image; a ``.npy`` file of one sample or several; or JSON, as :meth:`of_json` takes it. For
                texts anything but JSON is one text for each line that is not empty, and a line such as
                ``{"text": "one", "pair": "other"}`` is a pair of them.
            whose: what to call it in errors.

        Raises:
            InputError: naming the first sample that is not as expected.
        """
        return [piece.make() for piece in self.pieces(data, kind, whose=whose)]

    def of_json(self, value: Any, *, whose: str = "input") -> list[Sample]:
        """The samples in a JSON value: ``{"input": …}`` for one, ``{"inputs": […]}`` for several, or just these.

        Args:
            value: each sample is nested lists of numbers, a mapping of them for a model that is called by names, an
                encoded image in base64, a text, or a list of two texts that are read together.
            whose: what to call it in errors.

        Raises:
            InputError: naming the first sample that is not as expected.
        """
        return [piece.make() for piece in self._of_json(value, whose)]

    def pieces(self, data: bytes, kind: Kind, *, whose: str = "input") -> list[Piece]:
        """What :meth:`read` reads, sample by sample, so that one can be refused and the others answered.

        Raises:
            InputError: when the file as a whole cannot be read.
        """
        if self.tensors[0].text:
            return self._of_lines(data, kind, whose)
        if kind == "json":
            return self._of_json(read_json(data, whose=whose), whose)
        if self.layout != "tensor":
            raise InputError(f"{whose} is one {kind}; the model takes {self}: give them as JSON")
        if kind == "image":
            return [_image(self.tensors[0], data, whose)]
        array = read_array(data, whose=whose)
        return _pieces(self.tensors[0].numbers, array, whose, several=array.ndim > len(self.tensors[0].shape))

    def _of_lines(self, data: bytes, kind: Kind, whose: str) -> list[Piece]:
        """Texts as JSON, or what is no JSON of texts line by line."""
        if kind == "json":
            try:
                value = read_json(data, whose=whose)
            except InputError:
                value = None  # a text may well begin like JSON
            if isinstance(value, list | Mapping | str):
                return self._of_json(value, whose)
        lines = data.decode("utf-8", "replace").removeprefix("\ufeff").splitlines()
        named = [(f"{whose}:{number}", line) for number, line in enumerate(lines, start=1) if line.strip()]
        if not named:
            raise InputError(f"{whose} holds no text; expected one on each line, or JSON")
        return [Piece(name, partial(self.sample, _pair_or_text(line), whose=name)) for name, line in named]

    def _of_json(self, value: Any, whose: str) -> list[Piece]:
        several = self._several(value)
        if isinstance(value, Mapping) and len(value) == 1 and not self.names:
            several = "inputs" in value
            value = value.get("inputs", value.get("input", value))
            if several and (not isinstance(value, list) or not value):
                raise InputError(f'{whose} has no list of samples under "inputs"')
        return _pieces(self.sample, value, whose, several=several)

    def sample(self, value: Any, *, whose: str = "input") -> Sample:
        """One sample out of JSON.

        Raises:
            InputError: when it is not as expected.
        """
        if self.layout == "mapping":
            if not isinstance(value, Mapping) or set(value) != set(self.names):
                given = ", ".join(map(repr, value)) if isinstance(value, Mapping) else type(value).__name__
                raise InputError(f"{whose} holds {given or 'nothing'}; the model takes {self}")
            return {
                name: one.numbers(value[name], whose=f"{whose}.{name}")
                for name, one in zip(self.names, self.tensors, strict=True)
            }
        if self.layout == "tuple":
            if not isinstance(value, list) or len(value) != len(self.tensors):
                raise InputError(f"{whose} is no list of {len(self.tensors)} tensors; the model takes {self}")
            both = enumerate(zip(self.tensors, value, strict=True))
            return tuple(one.numbers(numbers, whose=f"{whose}[{place}]") for place, (one, numbers) in both)
        if self.tensors[0].text:
            return self.tensors[0].read_text(value, whose=whose)
        if isinstance(value, str):
            return _image(self.tensors[0], _from_base64(value, whose), whose).make()
        return self.tensors[0].numbers(value, whose=whose)

    def example(self) -> Sample:
        """A sample that means nothing; sizes that are free are one."""
        return self._arranged([torch.ones([size or 1 for size in one.shape], dtype=one.dtype) for one in self.tensors])

    def batch(self, samples: Sequence[Sample]) -> Any:
        """Samples of equal shapes, or texts, as the inputs of one call."""
        if self.tensors[0].text:
            return pad_sequence(list(samples), batch_first=True)
        columns = zip(*map(self._flat, samples), strict=True)
        return self._arranged([torch.stack(column) for column in columns])

    def shapes(self, sample: Sample) -> tuple[torch.Size, ...]:
        """Of the tensors of a sample; only equal ones fit into one batch. Texts fit together whatever their length."""
        if self.tensors[0].text:
            return ()
        return tuple(tensor.shape for tensor in self._flat(sample))

    def _several(self, value: Any) -> bool:
        if not isinstance(value, list) or not value or self.layout == "tuple":
            return False
        if self.layout == "mapping" or self.tensors[0].text or isinstance(value[0], str):
            return True
        return _depth(value) > len(self.tensors[0].shape)

    def _flat(self, sample: Sample) -> tuple[Tensor, ...]:
        if self.layout == "tensor":
            return (sample,)
        return sample if self.layout == "tuple" else tuple(sample[name] for name in self.names)

    def _arranged(self, tensors: list[Tensor]) -> Any:
        if self.layout == "tensor":
            return tensors[0]
        return tuple(tensors) if self.layout == "tuple" else dict(zip(self.names, tensors, strict=True))

    def __str__(self) -> str:
        if self.layout != "mapping":
            return ", ".join(map(str, self.tensors))
        return ", ".join(f"{name!r} ({one})" for name, one in zip(self.names, self.tensors, strict=True))


def _of_record(inputs: InputShape) -> Expected:
    return Expected(inputs.shape, getattr(torch, inputs.dtype))


def _pieces(read: Callable[..., Sample], values: Any, whose: str, *, several: bool) -> list[Piece]:
    named = [(f"{whose}[{place}]", one) for place, one in enumerate(values)] if several else [(whose, values)]
    return [
        Piece(name, partial(read, one, whose=name), pixels=math.inf if isinstance(one, str) else 0)
        for name, one in named
    ]


def _pair_or_text(line: str) -> Any:
    """What a line holds: a pair of texts as JSON, or else a text, whatever it looks like."""
    if not line.lstrip().startswith("{"):
        return line
    try:
        value = read_json(line.encode(), whose="a line")
    except InputError:
        return line
    return value if isinstance(value, Mapping) and set(value) == {"text", "pair"} else line


def _image(expected: Expected, data: bytes, whose: str) -> Piece:
    image = expected.opened(data, whose=whose)
    return Piece(whose, partial(expected.decoded, image, whose=whose), pixels=image.width * image.height)


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, list):
        depth, value = depth + 1, value[0] if value else None
    return depth


def _from_base64(text: str, whose: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InputError(f"{whose} is text, but no image in base64: {error}") from error
