"""Texts as tensors, and the tokens that a network makes of them itself."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, final

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from understudy.errors import InputError
from understudy.extras import imported
from understudy.spec import Spec

if TYPE_CHECKING:
    import tokenizers

PADDING, EMPTY = 0, 1
"""Tokens of :class:`Words` and :class:`Bytes` that are no part of any text: after it, and in place of an empty one or
between two documents."""
DECODED = "decoder_input_ids"
"""What the decoder of an encoder–decoder reads: the name of that input in every model of transformers."""
_OTHERS = 2
_REMEMBERED = 8_000_000
"""Tokens of earlier texts that are kept, so that each epoch but the first costs next to nothing (4 bytes each)."""
_ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[SEP]")
_WORD = re.compile(r"\w+|[^\w\s]")

_BETWEEN = "\x1e"
"""The character that stands between the two texts of a pair; in a text itself it becomes a space."""

Text = str | tuple[str, str]
"""A text, or a pair of texts that are read together."""
Tokens = Annotated[int, Field(ge=1)]


@final
class Words(Spec):
    """Words and marks, each by its hash: no vocabulary has to be learnt, and no word is unknown.

    Two words can share a token; with 30,000 buckets that happens to every fourth word of a vocabulary of 10,000,
    and rarely matters, since most of those are rare.

    References:
        Weinberger, Dasgupta, Langford, Smola, Attenberg: Feature Hashing for Large Scale Multitask Learning, ICML 2009
        (arXiv:0902.2206).
    """

    kind: Literal["words"] = "words"
    buckets: Tokens = 30_000
    """How many tokens there are for words."""
    lowercase: bool = True
    """Whether capitals are made small."""
    max_length: Tokens = 512
    """Words of a text that are read; what comes after them is left out."""


@final
class Bytes(Spec):
    """The bytes of a text in UTF-8, one token each: for languages without spaces, and models of characters."""

    kind: Literal["bytes"] = "bytes"
    max_length: Tokens = 2048
    """Bytes of a text that are read; what comes after them is left out."""


@final
class Tokenizer(Spec):
    """A tokenizer as Hugging Face's libraries save it."""

    kind: Literal["tokenizer"] = "tokenizer"
    path: str
    """A ``tokenizer.json``, a folder that ``tokenizer.save_pretrained(folder)`` wrote, or an id on the hub."""
    max_length: Tokens | None = None
    """Tokens of a text that are read, its marks of beginning and end among them; what comes after them is left out.
    None: as many as the model has positions for."""


AnyTokens = Words | Bytes | Tokenizer
"""What a model may make of texts."""


def bytes_of(texts: Sequence[Text]) -> Tensor:
    r"""Texts as one tensor: their bytes in UTF-8, with zeros after the shorter ones.

    Args:
        texts: any, or pairs, with a byte between the two that is in no text; the characters U+0000 and U+001E, which
            are no text, become spaces.

    Returns:
        uint8 (texts, bytes of the longest), at least one column.

    Example:
        >>> bytes_of(["ab", "c"]).tolist()
        [[97, 98], [99, 0]]
        >>> bytes_of([("a", "b")]).tolist()
        [[97, 30, 98]]
    """
    encoded = utf8(texts)
    rows = np.zeros((len(encoded), max((len(text) for text in encoded), default=0) or 1), np.uint8)
    for row, text in zip(rows, encoded, strict=True):
        row[: len(text)] = np.frombuffer(text, np.uint8)
    return torch.from_numpy(rows)


def utf8(texts: Sequence[Text]) -> list[bytes]:
    """Texts as bytes without a zero among them, which stands for padding; what is no character becomes ``?``."""
    parts = ((text,) if isinstance(text, str) else text for text in texts)
    return [_BETWEEN.encode().join(_utf8(part.replace(_BETWEEN, " ")) for part in each) for each in parts]


def texts_of(rows: Tensor) -> list[Text]:
    """The texts, or pairs of them, that :func:`bytes_of` made a tensor of.

    Args:
        rows: uint8 (texts, bytes).

    Example:
        >>> texts_of(bytes_of(["naïve", ""]))
        ['naïve', '']
    """
    return [_text_of(text) for text in _encoded(rows)]


def are_texts(inputs: Any) -> bool:
    """Whether a batch's inputs are texts: a tensor (texts, bytes) of uint8, which nothing else is."""
    return isinstance(inputs, Tensor) and inputs.dtype == torch.uint8 and inputs.ndim == 2


def are_tokens(inputs: Any) -> bool:
    """Whether a batch's inputs are a language model's: tokens, int64 (batch, tokens), or with what a decoder reads."""
    if isinstance(inputs, Mapping):
        return DECODED in inputs
    return isinstance(inputs, Tensor) and inputs.dtype == torch.int64 and inputs.ndim == 2


@dataclass(frozen=True, eq=False, slots=True)
class _Made:
    """What was made of one text, or of a pair.

    Attributes:
        tokens: int32 (tokens,).
        cut: whether there were more.
        kinds: int8 (tokens,), of which text of a pair each is, 0 or 1; None where there is only one.
    """

    tokens: np.ndarray
    cut: bool
    kinds: np.ndarray | None = None


@final
class TextTokenization:
    """A forward pre-hook that makes tokens of texts; a call with anything else passes through.

    The network is then called with ``input_ids`` and ``attention_mask``, int64 (batch, tokens), padded at the end to
    the longest text of the batch. Copies of a network share it.

    Of a pair both texts are read, the longer one cut first. A saved tokenizer puts its own marks around them; of words
    and bytes :data:`EMPTY` stands between the two.

    Args:
        spec: what tokens are made.
        backend: the tokenizer itself, for :class:`Tokenizer`; its truncation and padding are set here.

    Attributes:
        told_apart: whether the network is also given ``token_type_ids``, which say of each token of which text it is:
            never, where there is a pair in a batch, or always.

    Raises:
        InputError: when no token of a text is left of so few.
    """

    def __init__(self, spec: AnyTokens, backend: tokenizers.Tokenizer | None = None) -> None:
        self.spec = spec
        self.backend = backend
        self.told_apart: Literal["never", "pairs", "always"] = "never"
        self._remembered: dict[bytes, _Made] = {}
        self._tokens = 0
        if backend is None:
            self.padding = PADDING
            return
        self.padding = (backend.padding or {}).get("pad_id", _pad_token(backend))
        backend.no_padding()
        marks = backend.num_special_tokens_to_add(False)
        if spec.max_length is None:
            backend.no_truncation()
        elif spec.max_length <= marks:
            raise InputError(
                f"`max_length: {spec.max_length}` leaves no room for a text: the tokenizer puts {marks} marks around it"
            )
        else:
            backend.enable_truncation(spec.max_length)

    def __deepcopy__(self, memo: dict[int, Any]) -> TextTokenization:
        return self

    @property
    def vocabulary(self) -> int:
        """How many tokens there are: one more than the largest that a text can have."""
        match self.spec:
            case Words():
                return self.spec.buckets + _OTHERS
            case Bytes():
                return 256 + _OTHERS
            case _:
                assert self.backend is not None
                return max(self.backend.get_vocab().values(), default=0) + 1

    @property
    def end(self) -> int | None:
        """The token that stands behind a document in a running text; None where the tokenizer has none for it."""
        if self.backend is None:
            return EMPTY
        named = map(self.backend.token_to_id, _ENDS)
        return next((number for number in named if number is not None), None)

    def running(self, text: str) -> np.ndarray:
        """The tokens of a whole document, int64, without marks around it, however long it is.

        Args:
            text: of bytes or of a saved tokenizer; words by their hash could not be made a text again.
        """
        if self.backend is not None:
            return np.array(self.backend.encode(text, add_special_tokens=False).ids, np.int64)
        return np.frombuffer(_utf8(text), np.uint8).astype(np.int64) + _OTHERS

    def closed(self, text: str) -> np.ndarray:
        """The tokens of one text, int64, with the marks that a saved tokenizer puts around it, and that of the end.

        Args:
            text: as for :meth:`running`.
        """
        row = self.running(text) if self.backend is None else np.array(self.backend.encode(text).ids, np.int64)
        return row if self.end is None or row[-1:].tolist() == [self.end] else np.append(row, self.end)

    def text(self, tokens: Sequence[int]) -> str:
        """The text that some tokens of bytes or of a saved tokenizer are of; marks are left out.

        Args:
            tokens: as :meth:`running` gives them, or as a language model wrote them.
        """
        if self.backend is not None:
            return self.backend.decode(list(tokens))
        return bytes(token - _OTHERS for token in tokens if token >= _OTHERS).decode("utf-8", "replace")

    @property
    def names(self) -> tuple[str, ...]:
        """What each token of bytes or of a saved tokenizer is called, in the order of their numbers."""
        if self.backend is None:
            shown = (chr(byte) if 32 < byte < 127 else f"<{byte:02X}>" for byte in range(256))
            return ("<padding>", "<end>", *shown)
        named = map(self.backend.id_to_token, range(self.vocabulary))
        return tuple(f"<{number}>" if name is None else name for number, name in enumerate(named))

    @cached_property
    def identity(self) -> str:
        """A digest of how texts become tokens; two networks of one identity see the same tokens of every text."""
        content = self.spec.asked() | {"path": None, "backend": self.backend and self.backend.to_str()}
        return hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()[:16]

    def __call__(
        self, _module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the call, with tokens in place of texts."""
        if len(positional) == 1 and are_texts(positional[0]):
            return (), {**named, **self.tokens(positional[0])}
        return positional, named

    def tokens(self, rows: Tensor) -> dict[str, Tensor]:
        """The tokens of a batch of texts.

        Args:
            rows: uint8 (texts, bytes), as :func:`bytes_of` makes them.

        Returns:
            ``input_ids`` and ``attention_mask``, and where the network tells pairs apart ``token_type_ids``, int64
            (texts, tokens of the longest), on the device of ``rows``.
        """
        made = self._made(rows)
        each = [one.tokens for one in made]
        lengths = np.array([len(tokens) for tokens in each], np.int64)
        real = np.arange(lengths.max(initial=1)) < lengths[:, None]
        ids = np.full(real.shape, self.padding, np.int64)
        if len(each):
            ids[real] = np.concatenate(each)
        tensors = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(real.astype(np.int64))}
        pairs = any(one.kinds is not None for one in made)
        if self.told_apart == "always" or (self.told_apart == "pairs" and pairs):
            kinds = np.zeros(real.shape, np.int64)
            for row, one in enumerate(made):
                if one.kinds is not None:
                    kinds[row, : len(one.kinds)] = one.kinds
            tensors["token_type_ids"] = torch.from_numpy(kinds)
        return {name: tensor.to(rows.device) for name, tensor in tensors.items()}

    def cut(self, rows: Tensor) -> int:
        """How many of these texts are longer than what is read of them."""
        return sum(one.cut for one in self._made(rows))

    def _made(self, rows: Tensor) -> list[_Made]:
        texts = _encoded(rows)
        new = list(dict.fromkeys(text for text in texts if text not in self._remembered))
        made = dict(zip(new, self._encode(new), strict=True))
        answer = [made[text] if text in made else self._remembered[text] for text in texts]
        self._remembered |= made
        self._tokens += sum(len(one.tokens) for one in made.values())
        if self._tokens > _REMEMBERED:
            self._remembered, self._tokens = {}, 0
        return answer

    def _encode(self, texts: list[bytes]) -> list[_Made]:
        decoded = [_text_of(text) for text in texts]
        if self.backend is None:
            return [self._counted(text) for text in decoded]
        self._check_room(decoded)
        encodings = self.backend.encode_batch(decoded)
        return [
            _Made(
                np.array(each.ids or [self.padding], np.int32),
                bool(each.overflowing),
                None if isinstance(text, str) else np.array(each.type_ids, np.int8),
            )
            for each, text in zip(encodings, decoded, strict=True)
        ]

    def _check_room(self, texts: list[Text]) -> None:
        assert self.backend is not None
        most, marks = self.spec.max_length, self.backend.num_special_tokens_to_add(True)
        if most is not None and most <= marks and any(not isinstance(text, str) for text in texts):
            raise InputError(
                f"`max_length: {most}` leaves no room for a pair of texts: the tokenizer puts {marks} marks around it"
            )

    def _counted(self, text: Text) -> _Made:
        """The tokens of words or bytes of a text, or of a pair with a mark between."""
        most = self.spec.max_length
        assert most is not None  # only a saved tokenizer leaves it open
        parts = [self._numbers(part) for part in ((text,) if isinstance(text, str) else text)]
        if len(parts) == 1:
            tokens = np.array(parts[0] or [EMPTY], np.int32)
            return _Made(tokens[:most], len(tokens) > most)
        first, second = parts
        whole, room = len(first) + len(second) + 1, max(0, most - 1)
        kept = min(len(first), max(room - len(second), (room + 1) // 2))
        tokens = np.array([*first[:kept], EMPTY, *second[: room - kept]], np.int32)
        return _Made(
            tokens[:most], whole > most, np.array([*[0] * (kept + 1), *[1] * (len(tokens) - kept - 1)], np.int8)[:most]
        )

    def _numbers(self, text: str) -> list[int]:
        if not isinstance(self.spec, Words):
            return [_OTHERS + value for value in _utf8(text)]
        words = _WORD.findall(text.lower() if self.spec.lowercase else text)
        return [_OTHERS + zlib.crc32(word.encode()) % self.spec.buckets for word in words]


def tokenization_of(model: nn.Module) -> TextTokenization | None:
    """How a model makes tokens of texts; None when it is not made for texts.

    Args:
        model: wrappers, which have one module inside, are looked through.
    """
    while True:
        for hook in model._forward_pre_hooks.values():
            if isinstance(hook, TextTokenization):
                return hook
        inside = list(model.children())
        if len(inside) != 1:
            return None
        model = inside[0]


def read_tokens(spec: AnyTokens) -> TextTokenization:
    """What makes the tokens that a spec describes.

    Args:
        spec: of words or bytes, or with the path of a ``tokenizer.json``.

    Raises:
        InputError: when there is no such file, or it holds no tokenizer.
    """
    if not isinstance(spec, Tokenizer):
        return TextTokenization(spec)
    library = imported("tokenizers", extra="text", needed_by="a saved tokenizer")
    try:
        backend = library.Tokenizer.from_file(spec.path)
    except Exception as error:  # the library raises nothing more special
        raise InputError(
            f"{spec.path} cannot be read as a tokenizer: {error}. Expected the tokenizer.json that "
            "tokenizer.save_pretrained(folder) writes"
        ) from error
    return TextTokenization(spec, backend)


def network_inputs(model: nn.Module, inputs: Any) -> Any:
    """What the network itself is called with: tokens in place of texts, anything else as it is.

    Args:
        model: any.
        inputs: a batch's inputs.
    """
    tokenization = tokenization_of(model) if are_texts(inputs) else None
    return inputs if tokenization is None else tokenization.tokens(inputs)


def _utf8(text: str) -> bytes:
    return text.replace("\0", " ").encode("utf-8", "replace")


def _text_of(encoded: bytes) -> Text:
    first, between, second = encoded.decode("utf-8", "replace").partition(_BETWEEN)
    return (first, second) if between else first


def _encoded(rows: Tensor) -> list[bytes]:
    return [row.tobytes().rstrip(b"\0") for row in rows.cpu().numpy()]


def _pad_token(backend: tokenizers.Tokenizer) -> int:
    """The token that is called padding; where none is, any will do, since it is masked."""
    names = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>")
    return next((number for name in names if (number := backend.token_to_id(name)) is not None), 0)
