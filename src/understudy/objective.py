"""Methods, and objectives: weighted sums of methods that one can read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError, listing
from understudy.knowledge import Knowledge, LayerPairs, Shapes
from understudy.schedules import AnySchedule, Schedule, value_at
from understudy.spec import Spec

Weight = Annotated[float, Field(ge=0.0)] | AnySchedule


class Method(Spec):
    """One frozen term of an objective: hyper-parameters, weight, taps, and its loss.

    A method without state overrides :meth:`loss`; one with modules of its own (an adapter, a memory) overrides
    :meth:`build`. ``0.9 * method`` is the same method with its weight multiplied.
    """

    paper: ClassVar[str]
    """The publication the method follows."""
    needs_teacher: ClassVar[bool] = True
    """Whether the term is part of the distillation, or also of the control that has no teacher."""
    compares_logits: ClassVar[bool] = True
    """Whether the term, if it needs a teacher, needs one with the student's own classes."""
    batch_coupled: ClassVar[bool] = False
    """Whether the samples of a batch are compared with each other, those of all processes included."""

    kind: str
    weight: Weight = 1.0
    """Factor of the term in the sum: a number, or a schedule over the training."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z]\w*$")] | None = None
    """How the term is called in logs; the kind, when not given. Two terms of one kind need names."""

    @property
    def label(self) -> str:
        """The term's name in logs."""
        return self.name or self.kind

    @property
    def student_taps(self) -> tuple[str, ...]:
        """Layers of the student that the loss reads."""
        return ()

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """Layers of the teacher that the loss reads."""
        return ()

    @property
    def wants_pairs(self) -> bool:
        """Whether the term reads layers that are still to be found."""
        return False

    def paired(self, pairs: LayerPairs) -> Method:  # noqa: ARG002 - what overriding methods need
        """The same term with the layers that it asked for.

        Raises:
            InputError: when there are none.
        """
        return self

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """The unweighted loss, a scalar: the mean over what counts in the batch.

        Args:
            student: what the student showed; gradients go here.
            teacher: what the teacher answered, detached. For a term that needs no teacher it is the student's.
            batch: the samples.
        """
        raise NotImplementedError(f"{type(self).__name__} computes its loss in the module that build() returns")

    def build(self, shapes: Shapes) -> nn.Module:  # noqa: ARG002 - what overriding methods need
        """The term as a module ``(student, teacher, batch) -> loss``, with whatever parameters it owns.

        Raises:
            InputError: when the shapes do not fit the method.
        """
        return Term(self)

    def __rmul__(self, factor: float | Schedule) -> Method:
        """``0.9 * method``: the same method with its weight multiplied."""
        return self.model_copy(update={"weight": _times(factor, self.weight)})

    __mul__ = __rmul__

    def __add__(self, other: Method | Objective) -> Objective:
        """``method + method``: the objective that is their sum."""
        return Objective((self,)) + other

    def __radd__(self, other: int) -> Objective:
        """Lets ``sum(methods)`` begin at 0."""
        return Objective((self,)).__radd__(other)


class Term(nn.Module):
    """A method without state, as a module."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """The method's unweighted loss."""
        return self.method.loss(student, teacher, batch)


def _times(factor: float | Schedule, weight: float | Schedule) -> float | Schedule:
    if isinstance(factor, Schedule):
        if isinstance(weight, Schedule):
            raise InputError(f"a term cannot have two schedules ({factor.kind} times {weight.kind}); write one")
        factor, weight = weight, factor
    if not 0.0 <= factor < math.inf:
        raise InputError(f"the weight of a term must be zero or more, and finite, got {factor}")
    return weight.scaled(factor) if isinstance(weight, Schedule) else factor * weight


@dataclass(frozen=True)
class Objective:
    """The sum of its terms: ``0.1 * CrossEntropy() + 0.9 * SoftTargets(temperature=4.0)``.

    Args:
        terms: at least one method; their labels must differ.

    Raises:
        InputError: for no terms, something that is not a method, two terms with one label, or a label that a
            module cannot have.
    """

    terms: tuple[Method, ...]

    def __post_init__(self) -> None:
        if not self.terms:
            raise InputError("an objective needs at least one term, such as CrossEntropy()")
        for term in self.terms:
            if not isinstance(term, Method):
                raise InputError(f"a term of an objective is a method, such as CrossEntropy(), got {term!r}")
            if term.label in dir(nn.ModuleDict) or term.label == "training":
                raise InputError(
                    f"a term cannot be called {term.label!r}, which is a name of every module; choose another"
                )
        doubles = [label for label, count in Counter(term.label for term in self.terms).items() if count > 1]
        if doubles:
            raise InputError(
                f"two terms of the objective are called {listing(doubles)}; give each a name of its own, "
                'such as SoftTargets(name="soft_hot")'
            )

    @staticmethod
    def of(terms: Objective | Method | Iterable[Method]) -> Objective:
        """An objective from whatever one would naturally pass: itself, one method, or several."""
        if isinstance(terms, Objective):
            return terms
        return Objective((terms,) if isinstance(terms, Method) else tuple(terms))

    def __add__(self, other: Objective | Method) -> Objective:
        return Objective(self.terms + Objective.of(other).terms)

    def __radd__(self, other: int) -> Objective:
        """Lets ``sum(terms)`` begin at 0."""
        return self if other == 0 else NotImplemented

    def __rmul__(self, factor: float | Schedule) -> Objective:
        return Objective(tuple(factor * term for term in self.terms))

    __mul__ = __rmul__

    @property
    def needs_teacher(self) -> bool:
        """Whether any term reads the teacher."""
        return any(term.needs_teacher for term in self.terms)

    @property
    def compares_logits(self) -> bool:
        """Whether any term needs a teacher with the student's own classes."""
        return any(term.needs_teacher and term.compares_logits for term in self.terms)

    @property
    def student_taps(self) -> tuple[str, ...]:
        """All student layers that some term reads, each once."""
        return tuple(dict.fromkeys(tap for term in self.terms for tap in term.student_taps))

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """All teacher layers that some term reads, each once."""
        return tuple(dict.fromkeys(tap for term in self.terms for tap in term.teacher_taps))

    @property
    def wants_pairs(self) -> bool:
        """Whether some term reads layers that are still to be found."""
        return any(term.wants_pairs for term in self.terms)

    def paired(self, pairs: LayerPairs) -> Objective:
        """The same objective with the layers that its terms asked for.

        Raises:
            InputError: naming every term for which there are none.
        """
        found, problems = [], []
        for term in self.terms:
            try:
                found.append(term.paired(pairs))
            except InputError as error:
                problems.append(str(error))
        if problems:
            raise InputError("\n".join(problems))
        return Objective(tuple(found))

    def without_teacher(self, supervised: Method) -> Objective:
        """The control's objective: the terms that need no teacher, at their own weights relative to each other.

        Their weights are divided by their sum at the start, so that taking the teacher away does not silently
        shrink the learning rate. When no term remains, the control trains on ``supervised`` alone.

        Args:
            supervised: what to train on when nothing else remains (the task's own supervised loss).
        """
        alone = tuple(term for term in self.terms if not term.needs_teacher)
        total = sum(value_at(term.weight, 0.0) for term in alone)
        if total == 0.0:
            return Objective((supervised,))
        return (1.0 / total) * Objective(alone)

    def build(self, shapes: Shapes) -> BuiltObjective:
        """The objective as a module that owns the adapters and memories of its terms.

        Raises:
            InputError: naming every term whose shapes do not fit.
        """
        built, problems = {}, []
        for term in self.terms:
            try:
                built[term.label] = term.build(shapes)
            except InputError as error:
                problems.append(str(error))
        if problems:
            raise InputError("\n".join(problems))
        return BuiltObjective(self, built)


class BuiltObjective(nn.Module):
    """An objective with the modules of its terms.

    Args:
        objective: the description.
        terms: the module of each term, by label.
    """

    def __init__(self, objective: Objective, terms: dict[str, nn.Module]) -> None:
        super().__init__()
        self.objective = objective
        self.terms = nn.ModuleDict(terms)

    def forward(
        self, student: Knowledge, teacher: Knowledge | None, batch: Batch, *, progress: float | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each term's unweighted value, detached, by label."""
        total, values = None, {}
        for method, module in zip(self.objective.terms, self.terms.values(), strict=True):
            value = module(student, teacher if teacher is not None else student, batch)
            values[method.label] = value.detach()
            weighted = value_at(method.weight, progress) * value
            total = weighted if total is None else total + weighted
        assert total is not None  # an objective has at least one term
        return total, values
