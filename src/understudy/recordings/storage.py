"""Which of a teacher's answers are kept, and as which tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, final

import torch
from pydantic import Field, model_validator
from torch import Tensor

from understudy.errors import InputError, listing
from understudy.functional.top_classes import tail_logit
from understudy.knowledge import Knowledge, TopClasses
from understudy.spec import Spec

Dtype = Literal["float32", "float16", "bfloat16", "int8"]
Layer = Literal["whole", "pooled"]
Temperature = Annotated[float, Field(gt=0.0)]

LOGITS, KEPT, TAILS, INPUTS, SCALE = "logits", "kept", "tails", "inputs", ".scale"
"""Names of the tensors of a shard: the logits, which classes they are of, the tails, the checksums of the inputs; and
what is added to the name of an int8 tensor for the numbers that its rows are multiplied with."""

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}
_INT8 = 127.0
_LEAST = _INT8 * torch.finfo(torch.float32).tiny
"""A row that is no greater is kept as zeros: its scale would have lost its digits, or be zero itself."""


@final
class Storage(Spec):
    """What is kept of a teacher's answers.

    Example:
        >>> Storage(top=8).dtype
        'float16'
    """

    dtype: Dtype = "float16"
    """How numbers are kept. `int8`: each row scaled by its greatest magnitude."""
    top: Annotated[int, Field(ge=1)] | None = None
    """Keep only so many of the likeliest classes, and all others as one: the tail. All when left out."""
    drawn: Annotated[int, Field(ge=1)] | None = None
    """Keep instead so many draws of classes, each by its probability, with repetition: what students learn from them is
    on average what they would learn from all classes."""
    temperatures: tuple[Temperature, ...] = ()
    """At which temperatures, beside 1, terms of an objective will ask for the tail."""
    layers: dict[str, Layer] = Field(default_factory=dict)
    """Outputs of layers to keep, by path: `whole`, or `pooled` to their mean over all places."""

    @model_validator(mode="after")
    def _temperatures_of_a_tail(self) -> Storage:
        if self.temperatures and self.top is None:
            raise ValueError("`temperatures` are those of the tail that `top` leaves; with all classes there is none")
        return self

    @model_validator(mode="after")
    def _drawn_or_likeliest(self) -> Storage:
        if self.drawn is not None and self.top is not None:
            raise ValueError("`top` and `drawn` are both given, expected one of them")
        return self

    @model_validator(mode="after")
    def _names_apart(self) -> Storage:
        names = [INPUTS, *self.names(tuple(self.layers))]
        doubles = sorted({name for name in names if names.count(name) > 1})
        if doubles:
            raise ValueError(
                f"a file would hold two tensors called {listing(doubles)}: the output of a layer, and one of the "
                "recording's own; leave the layer out"
            )
        return self

    @property
    def tail_temperatures(self) -> tuple[float, ...]:
        """Those of the columns of the tails: 1 comes first."""
        return (1.0, *(temperature for temperature in self.temperatures if temperature != 1.0))

    @property
    def sparse(self) -> bool:
        """Whether not all classes are kept."""
        return self.top is not None or self.drawn is not None

    def check(self, answer: Knowledge) -> None:
        """Refuse what cannot be kept of a teacher's answers.

        Raises:
            InputError: for as many likeliest classes or draws as there are classes, or more, or a layer without a row
                per sample.
        """
        classes = answer.logits.shape[-1]
        if self.top is not None and self.top >= classes:
            raise InputError(
                f"top: {self.top} of {classes} classes leaves no tail; expected fewer than {classes}, or leave `top` "
                "out to keep them all"
            )
        if self.drawn is not None and self.drawn >= classes:
            raise InputError(
                f"drawn: {self.drawn} of {classes} classes takes more room than all of them; expected fewer than "
                f"{classes}, or leave `drawn` out to keep them all"
            )
        for path in self.layers:
            shape = tuple(answer.features[path].shape)
            if shape[:1] != answer.logits.shape[:1]:
                raise InputError(
                    f"layer {path!r} gives {shape} for {len(answer.logits)} samples; expected one row for each. Leave "
                    "it out of `layers`"
                )

    def encode(self, answer: Knowledge, *, seeds: Tensor | None = None) -> dict[str, Tensor]:
        """The tensors that are kept of a batch's answers, on the CPU.

        Args:
            answer: logits of all classes, and the features of :attr:`layers`.
            seeds: int64 (n,), from which the draws of each sample follow; the numbers of the rows when not given.

        Raises:
            InputError: for numbers that the type cannot hold, or that are not finite.
        """
        logits = answer.logits.detach()
        found: dict[str, Tensor] = {}
        if self.drawn is not None:
            seeds = torch.arange(len(logits)) if seeds is None else seeds
            logits, kept = _drawn(logits, self.drawn, seeds)
            found[KEPT] = kept.to(_places(answer.logits.shape[-1])).cpu()
        if self.top is not None:
            values, kept = logits.topk(self.top, dim=-1)
            tails = torch.stack([tail_logit(logits, kept, temperature=each) for each in self.tail_temperatures], -1)
            if not tails.isfinite().all():
                raise InputError(f"the teacher's {TAILS} hold NaN or infinity; expected finite logits of all classes")
            found[TAILS] = tails.float().cpu()
            found[KEPT] = kept.to(_places(logits.shape[-1])).cpu()
            logits = values
        found |= self._packed(LOGITS, logits, rows=logits.ndim - 1)
        for path, form in self.layers.items():
            feature = answer.features[path].detach()
            found |= self._packed(path, pooled(feature) if form == "pooled" else feature, rows=1)
        return found

    def decode(self, rows: Mapping[str, Tensor], *, classes: int, layers: tuple[str, ...]) -> Knowledge:
        """The answers that some rows hold, in float32.

        Args:
            rows: tensors by name, as :meth:`encode` made them.
            classes: how many there are.
            layers: whose features are wanted.
        """
        features = {path: self._unpacked(path, rows) for path in layers}
        logits = self._unpacked(LOGITS, rows)
        if self.drawn is not None:
            return Knowledge(logits, features, top=TopClasses(rows[KEPT].long(), {}, classes, drawn=True))
        if self.top is None:
            return Knowledge(logits=logits, features=features)
        tails = rows[TAILS].unbind(-1)
        top = TopClasses(rows[KEPT].long(), dict(zip(self.tail_temperatures, tails, strict=True)), classes)
        return Knowledge(logits=logits, features=features, top=top)

    def names(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        """The tensors of a shard that :meth:`decode` needs for these layers."""
        packed = (LOGITS, *layers)
        scales = tuple(name + SCALE for name in packed) if self.dtype == "int8" else ()
        sparse = (KEPT, TAILS) if self.top is not None else (KEPT,) if self.drawn is not None else ()
        return packed + scales + sparse

    def widths(self, classes: int) -> dict[str, int]:
        """The last dimension of the tensors for which it is known.

        Args:
            classes: how many there are.
        """
        if self.drawn is not None:
            return {LOGITS: self.drawn, KEPT: self.drawn}
        if self.top is None:
            return {LOGITS: classes}
        return {LOGITS: self.top, KEPT: self.top, TAILS: len(self.tail_temperatures)}

    def _packed(self, name: str, values: Tensor, *, rows: int) -> dict[str, Tensor]:
        """One tensor in the type in which it is kept; for int8 with a scale for each index of the first ``rows``."""
        values = values.float()
        within = tuple(range(rows, values.ndim))
        greatest = values.abs().amax(within, keepdim=True) if within else values.abs()
        if not greatest.isfinite().all():
            raise InputError(f"the teacher's {name} hold NaN or infinity; expected finite numbers")
        if self.dtype == "int8":
            scale = (greatest / _INT8).where(greatest > _LEAST, 1.0)
            packed = (values / scale).round_().to(torch.int8)
            return {name: packed.cpu(), name + SCALE: scale.flatten(rows - 1).cpu()}
        dtype = _DTYPES[self.dtype]
        if greatest.numel() and float(greatest.max()) > torch.finfo(dtype).max:
            raise InputError(
                f"the teacher's {name} reach {float(greatest.max()):.3g}, more than {self.dtype} holds; keep them in "
                "bfloat16 or float32"
            )
        return {name: values.to(dtype).cpu()}

    def _unpacked(self, name: str, rows: Mapping[str, Tensor]) -> Tensor:
        packed = rows[name]
        if self.dtype != "int8":
            return packed.float()
        scale = rows[name + SCALE]
        return packed.float() * scale.reshape(*scale.shape, *[1] * (packed.ndim - scale.ndim))


def _places(classes: int) -> torch.dtype:
    """The type in which the number of a class is kept."""
    return torch.int16 if classes <= 2**15 else torch.int32


def _drawn(logits: Tensor, count: int, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithms of the probabilities of draws of each position, and which classes they are."""
    logarithms = logits.float().log_softmax(-1)
    if logarithms.isnan().any():
        raise InputError(f"the teacher's {LOGITS} hold NaN or infinity; expected finite numbers")
    generator, parts = torch.Generator(logits.device), []
    for sample, seed in zip(logarithms, seeds.tolist(), strict=True):
        shares = sample.exp().reshape(-1, logits.shape[-1])
        parts.append(torch.multinomial(shares, count, replacement=True, generator=generator.manual_seed(seed)))
    kept = torch.stack(parts).reshape(*logits.shape[:-1], count)
    return logarithms.gather(-1, kept), kept


def pooled(feature: Tensor) -> Tensor:
    """A feature's mean over all places: (n, channels, …) of maps, (n, tokens, channels) of tokens → (n, channels)."""
    if feature.ndim == 3:
        return feature.mean(1)
    return feature.flatten(2).mean(2) if feature.ndim > 3 else feature
