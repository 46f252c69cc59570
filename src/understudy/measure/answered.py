"""What a model answered for each sample, as little of it as a report needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import torch
from torch import Tensor

from understudy.batch import IGNORE_INDEX, known


class Answered(Protocol):
    """The answers of a model to a split, on the CPU."""

    @property
    def targets(self) -> Tensor:
        """What is true of each position, (positions, ...)."""
        ...

    @property
    def ids(self) -> Tensor | None:
        """Int64 (positions,), the sample of each; None when the loader gave no ids."""
        ...

    def confusion(self, classes: int) -> list[list[int]] | None:
        """How often each class (row) was taken for each class (column), over what is labelled; None without classes."""
        ...

    def differing(self, student: Any) -> Tensor:
        """The positions at which a student answers something else, those that say most first.

        Args:
            student: its answers, in the same order.
        """
        ...

    def told(self, index: int, names: Sequence[str]) -> dict[str, Any]:
        """The answer at one position in words, ``class``, and how likely it was for the model, ``probability``.

        Args:
            index: the position.
            names: of the classes, or of the numbers.
        """
        ...

    def label(self, index: int, names: Sequence[str]) -> str | None:
        """What is true of one position, in words; None where nobody knows it."""
        ...


@final
@dataclass(frozen=True, slots=True)
class ClassesAnswered:
    """The likeliest class of each position.

    Attributes:
        best: int64 (positions,).
        probability: float32 (positions,), how sure the model was.
        targets: int64 (positions,), ``IGNORE_INDEX`` where there is no label.
        ids: int64 (positions,), the sample of each; None when the loader gave no ids.
    """

    best: Tensor
    probability: Tensor
    targets: Tensor
    ids: Tensor | None

    def confusion(self, classes: int) -> list[list[int]] | None:
        """How often each class (row) was taken for each class (column), over what is labelled."""
        there = self.targets != IGNORE_INDEX
        cells = torch.bincount(self.targets[there] * classes + self.best[there], minlength=classes * classes)
        return cells.view(classes, classes).tolist()

    def differing(self, student: ClassesAnswered) -> Tensor:
        """Where a student's likeliest class is another one, the surest answers first."""
        differ = torch.where(self.best != student.best)[0]
        return differ[self.probability[differ].argsort(descending=True)]

    def told(self, index: int, names: Sequence[str]) -> dict[str, Any]:
        """The likeliest class."""
        return {"class": names[int(self.best[index])], "probability": round(float(self.probability[index]), 4)}

    def label(self, index: int, names: Sequence[str]) -> str | None:
        """The true class."""
        target = int(self.targets[index])
        return names[target] if target >= 0 else None


@final
@dataclass(frozen=True, slots=True)
class NumbersAnswered:
    """The numbers of each position, or its vector.

    Attributes:
        numbers: float32 (positions, numbers).
        targets: float32 (positions, numbers), NaN where nobody knows them.
        ids: int64 (positions,), the sample of each; None when the loader gave no ids.
        named: whether each of the numbers means something.
    """

    numbers: Tensor
    targets: Tensor
    ids: Tensor | None
    named: bool

    def confusion(self, classes: int) -> None:
        """There is none."""

    def differing(self, student: NumbersAnswered) -> Tensor:
        """All positions, those with the largest difference first; none of vectors, which nobody can read."""
        if not self.named:
            return torch.zeros(0, dtype=torch.int64)
        return (self.numbers - student.numbers).square().sum(-1).argsort(descending=True)

    def told(self, index: int, names: Sequence[str]) -> dict[str, Any]:
        """The numbers."""
        return {"class": in_words(self.numbers[index].tolist(), names), "probability": None}

    def label(self, index: int, names: Sequence[str]) -> str | None:
        """The true numbers."""
        return in_words(self.targets[index].tolist(), names) if bool(known(self.targets[index])) else None


def in_words(numbers: Sequence[float], names: Sequence[str]) -> str:
    """Numbers as people read them: one by itself, several with their names.

    Args:
        numbers: any.
        names: of each.

    Example:
        >>> in_words([0.25], ["score"]), in_words([1.0, 2.0], ["length", "width"])
        ('0.25', 'length 1, width 2')
    """
    if len(numbers) == 1:
        return f"{numbers[0]:.4g}"
    return ", ".join(f"{name} {number:.4g}" for name, number in zip(names, numbers, strict=True))
