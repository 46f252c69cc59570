"""Methods, and objectives: weighted sums of methods that one can read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from understudy.balancing import Balance
from understudy.batch import Batch
from understudy.chunks import in_chunks
from understudy.errors import InputError, listing
from understudy.functional.geometry import precise
from understudy.functional.reduction import positive
from understudy.functional.top_classes import merged_logits
from understudy.functional.vocabulary import ClosedForm
from understudy.knowledge import Answers, Knowledge, LayerPairs, Shapes, TopClasses
from understudy.schedules import AnySchedule, Schedule, value_at
from understudy.spec import Spec
from understudy.taps import of_member

Weight = Annotated[float, Field(ge=0.0)] | AnySchedule


class Method(Spec):
    """One frozen term of an objective: hyper-parameters, weight, taps, and its loss.

    A method without state overrides :meth:`loss`; one with modules of its own (an adapter, a memory) overrides
    :meth:`build`. ``0.9 * method`` is the same method with its weight multiplied.
    """

    paper: ClassVar[str]
    """The publication the method follows."""
    needs_teacher: ClassVar[bool] = True
    """Whether the term reads what a teacher answers."""
    self_taught: ClassVar[bool] = False
    """Whether a term that needs no teacher still is distillation, as the student teaches itself."""
    compares_logits: ClassVar[bool] = True
    """Whether the term, if it needs a teacher, needs one with the student's own classes."""
    batch_coupled: ClassVar[bool] = False
    """Whether the samples of a batch are compared with each other, those of all processes included."""
    by_position: ClassVar[bool] = False
    """Whether the loss is a mean over positions of something about the logits of each, and of nothing else, so that it
    can be computed for a few positions at a time."""
    answers: ClassVar[tuple[Answers, ...]] = ("classes",)
    """What the networks may answer that the term is about; one on their layers does not mind."""
    needs_one_label: ClassVar[bool] = False
    """Whether the term says nothing without the one true class of a sample; a mix of two samples has none."""

    among_classes: ClassVar[bool] = False
    """Whether the term is about the classes among each other, and says nothing where there is only yes or no."""

    kind: str
    weight: Weight = 1.0
    """Factor of the term in the sum: a number, or a schedule over the training."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z]\w*$")] | None = None
    """How the term is called in logs; the kind, when not given. Two terms of one kind need names."""
    student: str | None = None
    """Which of several students that train together learns from the term; the first one when not given."""
    teacher: str | None = None
    """Which of several teachers, or which other student, the term asks; all teachers together when not given."""

    def __repr_args__(self) -> Iterable[tuple[str | None, object]]:
        """Students and teachers are named only where there are several."""
        unnamed = {name for name in ("student", "teacher") if getattr(self, name) is None}
        return (item for item in super().__repr_args__() if item[0] not in unnamed)

    @property
    def distils(self) -> bool:
        """Whether the term is part of the distillation, and not also of the control that goes without."""
        return self.needs_teacher or self.self_taught

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
    def merges_at(self) -> float | None:
        """The temperature at which classes can be taken together without changing what the term compares.

        None: the term is about each class, so that a teacher has to tell all of them.
        """
        return None

    @property
    def learns_from_draws(self) -> bool:
        """Whether classes that were drawn by the teacher's probabilities are enough; they are then ``teacher.top``."""
        return False

    @property
    def closed_form(self) -> ClosedForm | None:
        """The divergence that the loss is, times the square of its temperature, where its gradient is a known formula.

        It is a faster way for a term ``by_position``, and no other value.
        """
        return None

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
        balance: how the terms' weights adapt while training; None leaves them as they are.

    Raises:
        InputError: for no terms, something that is not a method, two terms with one label, a label that a
            module cannot have, or a balance of fewer than two terms.
    """

    terms: tuple[Method, ...]
    balance: Balance | None = None

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
        if self.balance is not None and not isinstance(self.balance, Balance):
            raise InputError(f"a balance is a value such as LearnedUncertainty(), got {self.balance!r}")
        if self.balance is not None and len(self.terms) < 2:
            raise InputError(
                f"{self.balance.kind} weighs terms against each other, so it needs two or more; the objective has "
                f"only {listing([term.label for term in self.terms])}. Add a term, or leave the balance out"
            )

    @staticmethod
    def of(terms: Objective | Method | Iterable[Method]) -> Objective:
        """An objective from whatever one would naturally pass: itself, one method, or several."""
        if isinstance(terms, Objective):
            return terms
        return Objective((terms,) if isinstance(terms, Method) else tuple(terms))

    def __add__(self, other: Objective | Method) -> Objective:
        other = Objective.of(other)
        if self.balance is not None and other.balance is not None and self.balance != other.balance:
            raise InputError(f"an objective has one balance, got {self.balance!r} and {other.balance!r}; leave one out")
        return Objective(self.terms + other.terms, self.balance or other.balance)

    def __radd__(self, other: int) -> Objective:
        """Lets ``sum(terms)`` begin at 0."""
        return self if other == 0 else NotImplemented

    def __rmul__(self, factor: float | Schedule) -> Objective:
        return replace(self, terms=tuple(factor * term for term in self.terms))

    __mul__ = __rmul__

    def balanced(self, balance: Balance) -> Objective:
        """The same terms, with weights that adapt: ``(0.1 * CrossEntropy() + SoftTargets()).balanced(GradientNorm())``.

        Args:
            balance: how; it takes the place of the one there was.
        """
        return replace(self, balance=balance)

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
        """All student layers that some term reads, each once; those of one of several as ``name/path``."""
        taps = (of_member(term.student, tap) for term in self.terms for tap in term.student_taps)
        return tuple(dict.fromkeys(taps))

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """All teacher layers that some term reads, each once; those of one of several as ``name/path``."""
        taps = (of_member(term.teacher, tap) for term in self.terms for tap in term.teacher_taps)
        return tuple(dict.fromkeys(taps))

    @property
    def wants_pairs(self) -> bool:
        """Whether some term reads layers that are still to be found."""
        return any(term.wants_pairs for term in self.terms)

    def paired(self, pairs: Callable[[Method], LayerPairs]) -> Objective:
        """The same objective with the layers that its terms asked for.

        Args:
            pairs: the layers of the student and of the teacher of a term that belong together.

        Raises:
            InputError: naming every term for which there are none.
        """
        found, problems = [], []
        for term in self.terms:
            try:
                found.append(term.paired(pairs(term)) if term.wants_pairs else term)
            except InputError as error:
                problems.append(str(error))
        if problems:
            raise InputError("\n".join(problems))
        return replace(self, terms=tuple(found))

    @property
    def unmixable(self) -> list[str]:
        """For every term that cannot learn from mixes of two samples, why not, and what to do."""
        return [
            f"{term.label} needs the one true class of each sample, and samples that are mixed (`mixup`, `cutmix`) "
            "have two; leave the mixing out, or the term: cross_entropy and soft_targets can be used instead"
            for term in self.terms
            if term.needs_one_label
        ]

    @property
    def unchunkable(self) -> list[str]:
        """Why the logits of a batch cannot be computed a few positions at a time, and what to do; none if they can."""
        problems = []
        of_layers = [
            term for term in self.terms if (term.student_taps or term.wants_pairs) and not term.compares_logits
        ]
        whole = [term.label for term in self.terms if not term.by_position and term not in of_layers]
        if whole:
            problems.append(
                f"{', '.join(whole)} needs the logits of all positions at once, which head_chunk never has; use "
                "cross_entropy, soft_targets, reverse_kl, skew_kl, jensen_shannon or total_variation, or leave it out"
            )
        if self.balance is not None:
            problems.append(
                f"head_chunk computes the gradients of all terms together, and {self.balance.kind} needs those of "
                "each; leave one of them out"
            )
        return problems

    def without_teacher(self, supervised: Method) -> Objective:
        """The control's objective: the terms that do not distil, at their own weights relative to each other.

        Their weights are divided by their sum at the start, so that taking the teacher away does not silently
        shrink the learning rate. When no term remains, the control trains on ``supervised`` alone.

        Args:
            supervised: what to train on when nothing else remains (the task's own supervised loss).
        """
        alone = tuple(term for term in self.terms if not term.distils)
        total = sum(value_at(term.weight, 0.0) for term in alone)
        if total == 0.0:
            return Objective((supervised,))
        return (1.0 / total) * Objective(alone)

    def build(self, student: Knowledge, teacher: Knowledge | None) -> BuiltObjective:
        """The objective as a module that owns the adapters and memories of its terms.

        Args:
            student: what the student, or each of several, showed for an example.
            teacher: what the teacher answered for it, if there is one.

        Raises:
            InputError: naming every term whose shapes do not fit.
        """
        built, problems = {}, []
        for term in self.terms:
            shown, answer = sides(term, student, teacher)
            try:
                built[term.label] = term.build(Shapes.of(shown, answer))
            except InputError as error:
                problems.append(str(error))
        if problems:
            raise InputError("\n".join(problems))
        return BuiltObjective(self, built)


def sides(term: Method, student: Knowledge, teacher: Knowledge | None) -> tuple[Knowledge, Knowledge | None]:
    """What a term compares: the student that learns from it, and whoever it asks: a teacher or another student."""
    if term.teacher in student.members:
        return student.of(term.student), student.of(term.teacher)
    return student.of(term.student), teacher.of(term.teacher) if teacher is not None else None


def term_value(term: Method, module: nn.Module, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
    """The unweighted value of a term, computed by the module that it built."""
    shown, answer = sides(term, student, teacher)
    if answer is not None and answer.top is not None and not answer.top.drawn and term.merges_at is not None:
        shown, answer = _merged(shown, answer, answer.top, term.merges_at)
    return module(shown, answer if answer is not None else shown, batch)


def _merged(student: Knowledge, teacher: Knowledge, top: TopClasses, temperature: float) -> tuple[Knowledge, Knowledge]:
    """Both over the classes that the teacher tells, and one more for all the others."""
    tail = top.tails[temperature].unsqueeze(-1)
    told = torch.cat([teacher.logits.to(tail.dtype), tail], -1)
    shown = merged_logits(student.logits, top.kept, temperature=temperature)
    return replace(student, logits=shown), replace(teacher, logits=told, top=None)


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
        self.balance = objective.balance.build(len(terms)) if objective.balance is not None else None

    def begin(self, network: nn.Module, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> None:
        """Let the balance, if there is one, look at what the terms depend on.

        Args:
            network: the student.
            student: what it showed for an example, with its graph.
            teacher: what the teacher answered.
            batch: the example.

        Raises:
            InputError: when these terms cannot be balanced on this student.
        """
        if self.balance is not None:
            self.eval()
            terms = zip(self.objective.terms, self.terms.values(), strict=True)
            values = {term.label: term_value(term, module, student, teacher, batch) for term, module in terms}
            self.balance.begin(network, values)
            self.train()

    def watching(self) -> AbstractContextManager[Any]:
        """What the student's forward pass has to run in."""
        return self.balance.watching() if self.balance is not None else nullcontext()

    def weights(self, progress: float | None = None) -> dict[str, float]:
        """The factor of each term in the sum now, by label: its own weight times what the balance makes of it.

        Args:
            progress: how far the training is, 0 to 1; only scheduled weights need it.
        """
        factors = self.balance.factors().tolist() if self.balance is not None else [1.0] * len(self.terms)
        terms = zip(self.objective.terms, factors, strict=True)
        return {term.label: value_at(term.weight, progress) * factor for term, factor in terms}

    def forward(
        self, student: Knowledge, teacher: Knowledge | None, batch: Batch, *, progress: float | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each term's unweighted value, detached, by label.

        Of a student that stopped before its last layer the terms on logits are computed together, in chunks.
        """
        terms = list(zip(self.objective.terms, self.terms.values(), strict=True))
        weights = {term.label: value_at(term.weight, progress) for term, _ in terms}
        later = [(term, module) for term, module in terms if term.by_position and student.before_head is not None]
        values = {
            term.label: term_value(term, module, student, teacher, batch)
            for term, module in terms
            if (term, module) not in later
        }
        if self.balance is not None:
            total = self.balance(list(values.values()), list(weights.values()))
            return total, {label: value.detach() for label, value in values.items()}
        parts = [weights[label] * value for label, value in values.items()]
        if later:
            partial_terms = [partial(_value_and_slopes, term, module) for term, module in later]
            shares = [weights[term.label] for term, _ in later]
            together, found = in_chunks(partial_terms, shares, student, teacher, batch)
            parts.append(together)
            values |= {term.label: value for (term, _), value in zip(later, found, strict=True)}
        first, *rest = parts
        return sum(rest, first), {label: values[label].detach() for label in weights}


def _value_and_slopes(
    term: Method, module: nn.Module, student: Knowledge, teacher: Knowledge | None, batch: Batch
) -> tuple[Tensor, Tensor]:
    """What some positions in a row add to a term, and the gradient of that to their logits."""
    shown, answer = sides(term, student, teacher)
    if term.closed_form is not None and answer is not None and answer.top is None:
        assert batch.valid_total is not None  # whoever computes in chunks has counted
        factor = term.closed_form.temperature**2 / positive(batch.valid_total)
        values, slopes = term.closed_form(shown.logits, precise(answer.logits))
        return factor * values.sum(), factor * slopes
    with torch.enable_grad():
        logits = student.logits.detach().requires_grad_()
        value = term_value(term, module, replace(student, logits=logits), teacher, batch)
        (slopes,) = torch.autograd.grad(value, logits)
    return value.detach(), slopes
