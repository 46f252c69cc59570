"""Networks of our own for texts: the mean of word vectors, recurrent ones, and a convolutional one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Any, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from understudy.spec import Spec

Width = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0.0, lt=1.0)]


class BagArguments(Spec):
    """What ``arguments`` of the built-in ``bag`` may hold."""

    embedding: Width = 128
    """Length of the vector of a token."""
    hidden: tuple[Width, ...] = ()
    """Units of each layer behind the mean; none: the mean is classified itself."""
    dropout: Probability = 0.0
    """Probability with which a value before the last layer is dropped in training."""


class RecurrentArguments(Spec):
    """What ``arguments`` of the built-in ``lstm`` and ``gru`` may hold."""

    embedding: Width = 128
    """Length of the vector of a token."""
    width: Width = 128
    """Units of each direction of each layer."""
    layers: Width = 1
    """How many layers, each of which reads both ways."""
    dropout: Probability = 0.0
    """Probability with which a vector's value, and one before the last layer, is dropped in training."""


class TextCnnArguments(Spec):
    """What ``arguments`` of the built-in ``text_cnn`` may hold."""

    embedding: Width = 128
    """Length of the vector of a token."""
    width: Width = 100
    """Channels of each convolution."""
    sizes: Annotated[tuple[Width, ...], Field(min_length=1)] = (3, 4, 5)
    """How many tokens each of the convolutions sees at once."""
    dropout: Probability = 0.0
    """Probability with which a value before the last layer is dropped in training."""


TEXT_ARGUMENTS: dict[str, type[Spec]] = {
    "bag": BagArguments,
    "lstm": RecurrentArguments,
    "gru": RecurrentArguments,
    "text_cnn": TextCnnArguments,
}
"""The arguments of each built-in network for texts."""


@final
class Bag(nn.Module):
    """The mean of the tokens' vectors, whatever their order, and layers behind it.

    Args:
        vocabulary: how many tokens there are.
        classes: number of outputs.
        embedding: length of a token's vector.
        hidden: units of each layer behind the mean.
        dropout: before the last layer.

    References:
        Joulin, Grave, Bojanowski, Mikolov: Bag of Tricks for Efficient Text Classification, EACL 2017
        (arXiv:1607.01759).
    """

    def __init__(
        self, vocabulary: int, classes: int, *, embedding: int, hidden: Sequence[int] = (), dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        widths = (embedding, *hidden)
        layers = [(nn.Linear(inputs, units), nn.ReLU()) for inputs, units in zip(widths, hidden, strict=False)]
        self.hidden = nn.Sequential(*(layer for pair in layers for layer in pair))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (batch, classes) of tokens (batch, tokens), of which those count whose mask is 1."""
        vectors = self.embedding(input_ids)
        real = attention_mask.unsqueeze(-1).to(vectors.dtype)
        mean = (vectors * real).sum(1) / real.sum(1).clamp_min(1.0)
        return self.head(self.dropout(self.hidden(mean)))


@final
class Recurrent(nn.Module):
    """LSTM or GRU layers that read both ways, the largest value over the tokens, and the last layer.

    The backward direction begins at the last real token of each text, so that padding changes nothing.

    Args:
        cell: which of the two.
        vocabulary: how many tokens there are.
        classes: number of outputs.
        embedding: length of a token's vector.
        width: units of each direction.
        layers: how many.
        dropout: of the vectors, and before the last layer.

    References:
        Conneau, Kiela, Schwenk, Barrault, Bordes: Supervised Learning of Universal Sentence Representations, EMNLP 2017
        (arXiv:1705.02364), § 3.2.3, for the largest value over time.
    """

    def __init__(
        self,
        cell: Literal["lstm", "gru"],
        vocabulary: int,
        classes: int,
        *,
        embedding: int,
        width: int,
        layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            BothWays(cell, embedding if number == 0 else 2 * width, width) for number in range(layers)
        )
        self.head = nn.Linear(2 * width, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (batch, classes) of tokens (batch, tokens), of which those count whose mask is 1."""
        real = attention_mask.bool()
        states = self.dropout(self.embedding(input_ids))
        for layer in self.layers:
            states = layer(states, real)
        return self.head(self.dropout(_largest(states, real)))


@final
class BothWays(nn.Module):
    """One recurrent layer that reads forwards, and one that reads each text from its own end.

    Args:
        cell: ``lstm`` or ``gru``.
        inputs: channels that go in.
        width: channels of each direction that come out.
    """

    def __init__(self, cell: Literal["lstm", "gru"], inputs: int, width: int) -> None:
        super().__init__()
        kind = nn.LSTM if cell == "lstm" else nn.GRU
        self.forwards, self.backwards = (kind(inputs, width, batch_first=True) for _ in range(2))

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """(batch, tokens, inputs) and which tokens are real, (batch, tokens), to (batch, tokens, 2 · width)."""
        places = torch.arange(states.shape[1], device=states.device)
        mirrored = torch.where(real, real.sum(1, keepdim=True) - 1 - places, places)  # padding stays at the end
        forwards = self.forwards(states)[0]
        backwards = _taken(self.backwards(_taken(states, mirrored))[0], mirrored)
        return torch.cat([forwards, backwards], -1)


@final
class TextCnn(nn.Module):
    """Convolutions of several sizes over the tokens, the largest value of each channel, and the last layer.

    Args:
        vocabulary: how many tokens there are.
        classes: number of outputs.
        embedding: length of a token's vector.
        width: channels of each convolution.
        sizes: how many tokens each convolution sees.
        dropout: before the last layer.

    References:
        Kim: Convolutional Neural Networks for Sentence Classification, EMNLP 2014 (arXiv:1408.5882), § 2; here a
        window may begin before the text or end after it.
    """

    def __init__(
        self, vocabulary: int, classes: int, *, embedding: int, width: int, sizes: Sequence[int], dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.convolutions = nn.ModuleList(_convolution(embedding, width, size) for size in sizes)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width * len(sizes), classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (batch, classes) of tokens (batch, tokens), of which those count whose mask is 1."""
        real = attention_mask.bool()
        vectors = self.embedding(input_ids).masked_fill(~real.unsqueeze(-1), 0.0).transpose(1, 2)
        found = [self.relu(convolution(vectors)).transpose(1, 2) for convolution in self.convolutions]
        return self.head(self.dropout(_largest(torch.cat(found, -1), real)))


def _convolution(inputs: int, width: int, size: int) -> nn.Sequential:
    """A convolution that keeps the number of tokens."""
    around = nn.ConstantPad1d(((size - 1) // 2, size // 2), 0.0)
    return nn.Sequential(OrderedDict(pad=around, conv=nn.Conv1d(inputs, width, size)))


def build_text_network(name: str, arguments: dict[str, Any], *, classes: int, vocabulary: int) -> nn.Module:
    """Build a network of our own for texts.

    Args:
        name: one of :data:`TEXT_ARGUMENTS`.
        arguments: as checked by the class there.
        classes: number of outputs.
        vocabulary: how many tokens there are.
    """
    checked = TEXT_ARGUMENTS[name].model_validate(arguments).model_dump()
    match name:
        case "lstm" | "gru":
            return Recurrent(name, vocabulary, classes, **checked)
        case "text_cnn":
            return TextCnn(vocabulary, classes, **checked)
        case _:
            return Bag(vocabulary, classes, **checked)


def describe_text_network(name: str, arguments: dict[str, Any]) -> str:
    """The sizes of a network of our own for texts in a few words: ``128, 2 × 150``.

    Args:
        name: of the network.
        arguments: as :func:`build_text_network` takes them.
    """
    checked = TEXT_ARGUMENTS[name].model_validate(arguments)
    match checked:
        case RecurrentArguments():
            return f"{checked.embedding}, {checked.layers} × {checked.width} both ways"
        case TextCnnArguments():
            return f"{checked.embedding}, {'-'.join(map(str, checked.sizes))} × {checked.width}"
        case _:
            assert isinstance(checked, BagArguments)
            return "-".join(map(str, (checked.embedding, *checked.hidden)))


def _taken(states: Tensor, places: Tensor) -> Tensor:
    return states.gather(1, places.unsqueeze(-1).expand_as(states))


def _largest(states: Tensor, real: Tensor) -> Tensor:
    """The largest value of each channel over the real tokens; zero where there are none."""
    least = torch.finfo(states.dtype).min
    largest = states.masked_fill(~real.unsqueeze(-1), least).amax(1)
    return torch.where(real.any(1, keepdim=True), largest, torch.zeros_like(largest))
