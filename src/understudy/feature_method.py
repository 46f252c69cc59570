"""Methods on intermediate layers: which layers they read, how two features are brought together, what is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Size, Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError
from understudy.functional.layout import as_map, as_tokens, as_vector
from understudy.functional.reduction import connected_zero
from understudy.gathering import together
from understudy.knowledge import Knowledge, LayerPairs, Shapes
from understudy.objective import Method

Form = Literal["any", "map", "tokens", "vector"]
Layers = str | Annotated[tuple[str, ...], Field(min_length=1)]

_READ: dict[Form, Callable[[Tensor], Tensor]] = {
    "any": lambda feature: feature,
    "map": as_map,
    "tokens": as_tokens,
    "vector": as_vector,
}


class FeatureMethod(Method):
    """A term on pairs of layers, one of the student and one of the teacher; its value is the sum over the pairs.

    A method of its own overrides :meth:`compare`, and :meth:`adapter` if the student's feature has to be mapped
    first; one that owns more than an adapter overrides :meth:`join`. Where every position has logits of its own
    (tokens, pixels) and the feature has the same positions, each position is a row, (positions, channels).
    """

    compares_logits: ClassVar[bool] = False
    pairing: ClassVar[Literal["stages", "last", "penultimate"]] = "stages"
    """Which layers ``auto`` stands for: every stage, the last stage, or the features before the classifier."""
    form: ClassVar[Form] = "any"
    """How both are read: as they come (patch tokens that meet a map or another grid: both as maps), or always so."""

    student_layer: Layers = "auto"
    """Dotted path of the student's layer, as ``understudy layers`` prints it, or several; ``auto`` finds them."""
    teacher_layer: Layers = "auto"
    """Dotted path of the teacher's layer, or as many as the student's; ``auto`` finds them."""

    @model_validator(mode="after")
    def _as_many_on_both_sides(self) -> FeatureMethod:
        if (self.student_layer == "auto") != (self.teacher_layer == "auto"):
            raise ValueError("name the layers of student and teacher both, or leave both at 'auto'")
        student, teacher = _paths(self.student_layer), _paths(self.teacher_layer)
        if len(student) != len(teacher):
            raise ValueError(
                f"student_layer names {len(student)} layers and teacher_layer {len(teacher)}; expected pairs"
            )
        return self

    @property
    def student_taps(self) -> tuple[str, ...]:
        """The student's layers; none before ``auto`` is resolved."""
        return _paths(self.student_layer)

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """The teacher's layers; none before ``auto`` is resolved."""
        return _paths(self.teacher_layer)

    @property
    def wants_pairs(self) -> bool:
        """Whether the layers are still to be found."""
        return self.student_layer == "auto"

    def paired(self, pairs: LayerPairs) -> Method:
        """The same method with ``auto`` replaced by layers.

        Raises:
            InputError: when the two networks have no layers that belong together.
        """
        if not self.wants_pairs:
            return self
        chosen = {"stages": pairs.stages, "last": pairs.stages[-1:], "penultimate": pairs.penultimate}[self.pairing]
        if not chosen:
            raise InputError(
                f"{self.label}: found no layers of student and teacher that belong together; name them with "
                "student_layer and teacher_layer (`understudy layers` lists them)"
            )
        student, teacher = zip(*chosen, strict=True)
        return self.model_copy(update={"student_layer": student, "teacher_layer": teacher})

    def adapter(self, student: Size, teacher: Size) -> nn.Module:  # noqa: ARG002 - what overriding methods need
        """What brings a student's feature to what is compared with the teacher's; nothing by default.

        Args:
            student: shape of the student's feature in the method's form, the batch first.
            teacher: the same of the teacher's.

        Raises:
            InputError: when the two do not fit.
        """
        return nn.Identity()

    def compare(self, student: Tensor, teacher: Tensor, *, mask: Tensor | None, total: Tensor | None) -> Tensor:
        """The loss of one pair of layers, a scalar.

        Args:
            student: (n, ...), after the adapter.
            teacher: (n, ...).
            mask: bool (n,), which rows count; None means all.
            total: see :func:`understudy.functional.masked_mean`.
        """
        raise NotImplementedError(f"{type(self).__name__} compares in the module that join() returns")

    def join(self, student: Size, teacher: Size) -> nn.Module:
        """One pair of layers as a module ``(student, teacher, mask, total) -> loss``.

        Raises:
            InputError: when the two shapes do not fit.
        """
        return Comparison(self, self.adapter(student, teacher))

    def build(self, shapes: Shapes) -> nn.Module:
        """All pairs of layers, with what they own.

        Raises:
            InputError: naming every pair that does not fit.
        """
        problems, forms, joined = [], [], []
        for student, teacher in zip(self.student_taps, self.teacher_taps, strict=True):
            try:
                shown = [
                    _rows(torch.empty(shape, device="meta"), shapes.student_logits[:-1]).shape
                    for shape in (shapes.student[student], shapes.teacher[teacher])
                ]
                form = common_form(self.form, *shown)
                joined.append(self.join(*(shape_read(form, shape) for shape in shown)))
                forms.append(form)
            except InputError as error:
                problems.append(f"{self.label} ({student!r} to {teacher!r}): {error}")
        if problems:
            raise InputError("\n".join(problems))
        return FeatureTerm(self, forms, joined)


class RelationMethod(FeatureMethod):
    """A term on how the samples of a batch relate to each other: all of them, on all processes.

    A method of its own overrides :meth:`relate`, or :meth:`relation` if it owns modules. Rows that do not count are
    left out; a batch of one has no relations, and gives a zero that is connected to the student.
    """

    batch_coupled: ClassVar[bool] = True
    pairing: ClassVar[Literal["stages", "last", "penultimate"]] = "penultimate"
    form: ClassVar[Form] = "vector"
    fewest: ClassVar[int] = 2
    """With fewer rows there is nothing to compare."""

    def relate(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of (n, ...) and (n, ...), where all n rows count and n ≥ ``fewest``; a scalar."""
        raise NotImplementedError(f"{type(self).__name__} relates in the module that relation() returns")

    def relation(self, student: Size, teacher: Size) -> nn.Module:  # noqa: ARG002 - what overriding methods need
        """One pair of layers as a module ``(student, teacher) -> loss``."""
        return Related(self)

    def join(self, student: Size, teacher: Size) -> nn.Module:
        """The relation, of the rows that count, of all processes."""
        return Together(self.relation(student, teacher), self.fewest)


class Comparison(nn.Module):
    """A stateless comparison, after an adapter."""

    def __init__(self, method: FeatureMethod, adapter: nn.Module) -> None:
        super().__init__()
        self.method = method
        self.adapter = adapter

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor | None, total: Tensor | None) -> Tensor:
        """The loss of one pair of layers."""
        return self.method.compare(self.adapter(student), teacher.detach(), mask=mask, total=total)


class Related(nn.Module):
    """A stateless relation."""

    def __init__(self, method: RelationMethod) -> None:
        super().__init__()
        self.method = method

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of rows that all count."""
        return self.method.relate(student, teacher)


class Together(nn.Module):
    """A relation over the rows that count, of all processes."""

    def __init__(self, relation: nn.Module, fewest: int) -> None:
        super().__init__()
        self.relation = relation
        self.fewest = fewest

    def forward(self, student: Tensor, teacher: Tensor, mask: Tensor | None, total: Tensor | None) -> Tensor:
        """The loss of one pair of layers."""
        rows, answers, share = together(student, teacher.detach(), mask=mask, total=total)
        if len(rows) < self.fewest:
            return connected_zero(student, *self.relation.parameters())
        return share * self.relation(rows, answers)


class FeatureTerm(nn.Module):
    """A method on layers, with what each pair of them owns."""

    def __init__(self, method: FeatureMethod, forms: Sequence[Form], joined: Sequence[nn.Module]) -> None:
        super().__init__()
        self.method = method
        self.forms = tuple(forms)
        self.joined = nn.ModuleList(joined)

    def forward(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """The sum over the pairs."""
        positions = student.logits.shape[:-1]
        losses = []
        paths = zip(self.method.student_taps, self.method.teacher_taps, self.forms, self.joined, strict=True)
        for student_path, teacher_path, form, joined in paths:
            feature, answer = student.features[student_path], teacher.features[teacher_path]
            aligned = len(positions) == 1 or _has_positions(feature, positions)
            mask = student.mask.flatten() if aligned and student.mask is not None else None
            total = batch.valid_total if aligned else None
            feature, answer = _READ[form](_rows(feature, positions)), _READ[form](_rows(answer, positions))
            losses.append(joined(feature, answer, mask, total))
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0]


def common_form(wanted: Form, student: Sequence[int], teacher: Sequence[int]) -> Form:
    """The form in which two features can be compared.

    Args:
        wanted: what the method asks for.
        student: shape of the student's feature, the batch first.
        teacher: the same of the teacher's.
    """
    if wanted != "any":
        return wanted
    ranks = {len(student), len(teacher)}
    if ranks == {2, 4} and max(*student[2:], *teacher[2:]) == 1:
        return "vector"
    of_patches = ranks == {3, 4} or (ranks == {3} and student[1] != teacher[1])
    return "map" if of_patches else "any"


def shape_read(form: Form, shape: Sequence[int]) -> Size:
    """The shape of a feature when it is read in a form, the batch first.

    Raises:
        InputError: when it cannot be read so.
    """
    return _READ[form](torch.empty(tuple(shape), device="meta")).shape


def _paths(layers: Layers) -> tuple[str, ...]:
    if isinstance(layers, str):
        return () if layers == "auto" else (layers,)
    return layers


def _rows(feature: Tensor, positions: Size) -> Tensor:
    """A feature that has the positions of the logits, with one row for each of them; any other as it is."""
    if len(positions) > 1 and _has_positions(feature, positions):
        return feature.flatten(0, len(positions) - 1)
    return feature


def _has_positions(feature: Tensor, positions: Size) -> bool:
    return feature.ndim == len(positions) + 1 and feature.shape[:-1] == positions
