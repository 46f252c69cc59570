"""Numbers that change over a training: weights of loss terms and factors of the learning rate.

A schedule maps the progress of a training, 0 at its first step and 1 at its end, to a number, so that it means
the same for any number of epochs.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, Literal, final

from pydantic import Field, model_validator

from understudy.errors import InputError
from understudy.spec import Spec

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Amount = Annotated[float, Field(ge=0.0)]


class Schedule(Spec):
    """A number as a function of progress."""

    kind: str

    @abstractmethod
    def at(self, progress: float) -> float:
        """The value at ``progress`` in [0, 1]."""

    @abstractmethod
    def scaled(self, factor: float) -> Schedule:
        """The same schedule times a number."""


class _Ramp(Schedule):
    start: Amount
    """Value until ``begin``."""
    end: Amount
    """Value from ``finish`` on."""
    begin: Fraction = 0.0
    """Progress at which the change begins."""
    finish: Fraction = 1.0
    """Progress at which the change is over."""

    @model_validator(mode="after")
    def _forwards(self) -> _Ramp:
        if self.finish < self.begin:
            raise ValueError(f"the change would finish (at {self.finish}) before it begins (at {self.begin})")
        return self

    def scaled(self, factor: float) -> Schedule:
        return self.model_copy(update={"start": factor * self.start, "end": factor * self.end})

    def _done(self, progress: float) -> float:
        if self.finish <= self.begin:
            return float(progress >= self.begin)
        return min(max((progress - self.begin) / (self.finish - self.begin), 0.0), 1.0)


@final
class Linear(_Ramp):
    """A straight line from ``start`` to ``end``.

    Example:
        >>> Linear(start=0.0, end=1.0).at(0.25)
        0.25
    """

    kind: Literal["linear"] = "linear"

    def at(self, progress: float) -> float:
        """The value at ``progress`` in [0, 1]."""
        return self.start + (self.end - self.start) * self._done(progress)


@final
class Cosine(_Ramp):
    """Half a cosine from ``start`` to ``end`` (Loshchilov, Hutter: SGDR, 2017, eq. 5, without restarts).

    Example:
        >>> round(Cosine(start=1.0, end=0.0).at(0.5), 6)
        0.5
    """

    kind: Literal["cosine"] = "cosine"
    start: Amount = 1.0
    """Value until ``begin``."""
    end: Amount = 0.0
    """Value from ``finish`` on."""

    def at(self, progress: float) -> float:
        """The value at ``progress`` in [0, 1]."""
        return self.end + (self.start - self.end) * (1.0 + math.cos(math.pi * self._done(progress))) / 2.0


@final
class Step(Schedule):
    """Multiplied by ``factor`` at each of the points in ``at_progress``.

    Example:
        >>> [Step(at_progress=(0.5, 0.75)).at(p) for p in (0.0, 0.5, 0.8)]
        [1.0, 0.1, 0.010000000000000002]
    """

    kind: Literal["step"] = "step"
    start: Amount = 1.0
    """Value before the first point."""
    factor: Amount = 0.1
    """What the value is multiplied by at each point."""
    at_progress: tuple[Fraction, ...]
    """Points in [0, 1]."""

    def at(self, progress: float) -> float:
        """The value at ``progress`` in [0, 1]."""
        return self.start * self.factor ** sum(progress >= point for point in self.at_progress)

    def scaled(self, factor: float) -> Schedule:
        """The same schedule times a number."""
        return self.model_copy(update={"start": factor * self.start})


@final
class OneCycle(Schedule):
    """Up to ``peak`` and down again, both by half a cosine (Smith, Topin: Super-Convergence, 2018).

    Example:
        >>> [round(OneCycle().at(p), 3) for p in (0.0, 0.3, 1.0)]
        [0.04, 1.0, 0.0]
    """

    kind: Literal["one_cycle"] = "one_cycle"
    start: Amount = 0.04
    """Value at the beginning."""
    peak: Amount = 1.0
    """The highest value."""
    end: Amount = 0.0
    """Value at the end."""
    peak_at: Fraction = 0.3
    """Progress at which the peak is reached."""

    def at(self, progress: float) -> float:
        """The value at ``progress`` in [0, 1]."""
        if progress < self.peak_at:
            return Cosine(start=self.start, end=self.peak, finish=self.peak_at).at(progress)
        return Cosine(start=self.peak, end=self.end, begin=self.peak_at).at(progress)

    def scaled(self, factor: float) -> Schedule:
        """The same schedule times a number."""
        return self.model_copy(update={name: factor * getattr(self, name) for name in ("start", "peak", "end")})


AnySchedule = Annotated[Linear | Cosine | Step | OneCycle, Field(discriminator="kind")]
"""What a recipe may write where a schedule goes."""


def value_at(number: float | Schedule, progress: float | None) -> float:
    """A number as it is, a schedule at ``progress``.

    Raises:
        InputError: for a schedule without a progress.
    """
    if isinstance(number, Schedule):
        if progress is None:
            raise InputError(
                f"a scheduled weight ({number.kind}) needs to know how far the training is: "
                "call distiller(batch, progress=step / total_steps)"
            )
        return number.at(progress)
    return number
