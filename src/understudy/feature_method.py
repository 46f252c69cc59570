"""Methods on intermediate layers: which layers they read, how two features are brought together, what is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal, TypeVar

import torch
from pydantic import Field, model_validator
from torch import Size, Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError
from understudy.functional.layout import as_first_token, as_map, as_tokens, as_vector
from understudy.functional.reduction import connected_zero
from understudy.gathering import together
from understudy.knowledge import OUTPUT, Answers, Knowledge, LayerPairs, Shapes
from understudy.objective import Method

Form = Literal["any", "map", "tokens", "vector", "first"]
Layers = str | Annotated[tuple[str, ...], Field(min_length=1)]
Made = TypeVar("Made")

_READ: dict[Form, Callable[[Tensor], Tensor]] = {
    "any": lambda feature: feature,
    "map": as_map,
    "tokens": as_tokens,
    "vector": as_vector,
    "first": as_first_token,
}


class FeatureMethod(Method):
    """A term on pairs of layers, one of the student and one of the teacher; its value is the sum over the pairs.

    A method of its own overrides :meth:`compare`, and :meth:`adapter` if the student's feature has to be mapped
    first; one that owns more than an adapter overrides :meth:`join`. Where every position has logits of its own
    (tokens, pixels) and the feature has the same positions, each position is a row, (positions, channels). So is each
    token, where a sample has one row of logits and the task says which of its tokens are real; maps have no tokens.
    Only samples are counted over a whole optimizer step: a mean over their tokens is that of each micro-batch.
    """

    compares_logits: ClassVar[bool] = False
    answers: ClassVar[tuple[Answers, ...]] = ("classes", "numbers", "vectors")
    pairing: ClassVar[Literal["stages", "last", "penultimate"]] = "stages"
    """Which layers ``auto`` stands for: every stage, the last stage, or the features before the classifier."""
    form: ClassVar[Form] = "any"
    """How both are read: as they come (patch tokens that meet a map or another grid: both as maps), or always so."""

    student_layer: Layers = "auto"
    """Dotted path of the student's layer, as ``understudy layers`` prints it, or several; ``auto`` finds them, and
    ``:output`` is what the network itself gives, such as an embedding."""
    teacher_layer: Layers = "auto"
    """Dotted path of the teacher's layer, or as many as the student's; ``auto`` finds them."""

    @model_validator(mode="after")
    def _named_on_both_sides(self) -> FeatureMethod:
        if (self.student_layer == "auto") != (self.teacher_layer == "auto"):
            raise ValueError("name the layers of student and teacher both, or leave both at 'auto'")
        return self

    @model_validator(mode="after")
    def _as_many_on_both_sides(self) -> FeatureMethod:
        student, teacher = _paths(self.student_layer), _paths(self.teacher_layer)
        if len(student) != len(teacher):
            raise ValueError(
                f"student_layer names {len(student)} layers and teacher_layer {len(teacher)}; expected pairs"
            )
        return self

    @property
    def student_taps(self) -> tuple[str, ...]:
        """The student's layers; none before ``auto`` is resolved."""
        return _tapped(self.student_layer)

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """The teacher's layers; none before ``auto`` is resolved."""
        return _tapped(self.teacher_layer)

    @property
    def layers(self) -> list[tuple[str, str]]:
        """The pairs of layers that are compared, student's and teacher's; none before ``auto`` is resolved."""
        return list(zip(_paths(self.student_layer), _paths(self.teacher_layer), strict=True))

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
        made = self.of_each_pair(shapes, lambda form, student, teacher: (form, self.join(student, teacher)))
        return FeatureTerm(self, [form for form, _ in made], [joined for _, joined in made])

    def of_each_pair(self, shapes: Shapes, make: Callable[[Form, Size, Size], Made]) -> list[Made]:
        """What is made of each pair of layers, in their order; for a method that compares all pairs together.

        Args:
            shapes: of the layers, as the networks gave them.
            make: takes the form in which a pair is read, and the shapes of both in that form, the batch first.

        Raises:
            InputError: naming every pair that does not fit.
        """
        problems, made = [], []
        for student, teacher in self.layers:
            try:
                pair = shapes.of_student(student), shapes.of_teacher(teacher)
                refuse_uncounted(shapes, [size[1] for size in pair if len(size) == 3])
                positions = _positions(self, pair, shapes.places, shapes.tokens)
                of_tokens = _has_tokens(pair[0], shapes)
                if of_tokens and self.form == "map":
                    raise InputError("it compares maps, and these layers give the tokens of texts, which make no map")
                if of_tokens and self.form in ("any", "tokens") and not self.batch_coupled:
                    refuse_other_tokens(shapes)
                shown = [_rows(torch.empty(shape, device="meta"), positions).shape for shape in pair]
                # Tokens of texts are no patches, even if the two networks make another number of them.
                form = self.form if of_tokens else common_form(self.form, *shown)
                made.append(make(form, *(shape_read(form, shape) for shape in shown)))
            except InputError as error:
                problems.append(f"{self.label} ({student!r} to {teacher!r}): {error}")
        if problems:
            raise InputError("\n".join(problems))
        return made


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
        pairs = compared(self.method, self.forms, student, teacher, batch)
        losses = [joined(*pair) for joined, pair in zip(self.joined, pairs, strict=True)]
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0]


def compared(
    method: FeatureMethod, forms: Sequence[Form], student: Knowledge, teacher: Knowledge, batch: Batch
) -> list[tuple[Tensor, Tensor, Tensor | None, Tensor | None]]:
    """The features of each pair of layers in their form, (n, ...), which rows count, and how many in the whole step.

    Args:
        method: whose layers they are.
        forms: how each pair is read.
        student: what the student showed.
        teacher: what the teacher answered.
        batch: the samples.
    """
    tokens, pairs = student.tokens, []
    for (student_path, teacher_path), form in zip(method.layers, forms, strict=True):
        feature, answer = student.layer(student_path), teacher.layer(teacher_path)
        of_logits, shapes = student.places, (feature.shape, answer.shape)
        positions = _positions(method, shapes, of_logits, None if tokens is None else tokens.shape)
        if tokens is not None and len(positions) > len(of_logits):
            mask, total = (tokens if student.mask is None else tokens & student.mask[:, None]).flatten(), None
        else:
            aligned = len(of_logits) == 1 or _has_positions(feature.shape, of_logits)
            mask = student.mask.flatten() if aligned and student.mask is not None else None
            total = samples_in_step(student, batch) if aligned else None
            if len(of_logits) == 1:
                feature = _without_padding(form, feature, tokens)
                answer = _without_padding(form, answer, teacher.tokens)
        feature, answer = _READ[form](_rows(feature, positions)), _READ[form](_rows(answer, positions))
        pairs.append((feature, answer, mask, total))
    return pairs


def refuse_other_tokens(shapes: Shapes) -> None:
    """For a method that compares token by token: both networks must see the same ones.

    Args:
        shapes: what both gave.

    Raises:
        InputError: when they have different tokenizers.
    """
    if not shapes.same_tokens:
        raise InputError(
            "the two networks make different tokens of a text, which cannot be compared one by one; compare whole "
            "texts (soft_targets, embedding_similarity, patient, …), or give the student the teacher's tokenizer"
        )


def refuse_uncounted(shapes: Shapes, counts: Sequence[int]) -> None:
    """Refuse layers with other rows than the logits, where only of those it is said which count.

    Args:
        shapes: of the layers, as the networks gave them.
        counts: how many tokens each layer has.

    Raises:
        InputError: for a layer of the encoder, where a decoder gives the logits.
    """
    of_logits = shapes.student_logits[1:-1]
    strange = [count for count in counts if shapes.decoded and len(of_logits) == 1 and count != of_logits[0]]
    if strange:
        raise InputError(
            f"the layer has {strange[0]} tokens and the logits have {of_logits[0]}, so that nobody can say which of "
            "them are padding; name layers of the decoder, which have one row for each token that is said"
        )


def tokens_of_samples(
    student: Knowledge, batch: Batch, count: int
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """For a method that compares the tokens within each sample: what counts.

    Args:
        student: what the student showed.
        batch: the samples.
        count: tokens of the feature.

    Returns:
        Which tokens are real, (batch, tokens), which samples count, (batch,), and how many in the whole step; None
        each where all do. Where tokens have logits of their own, those that count are the real ones.
    """
    by_sample = len(student.places) == 1
    tokens = student.mask if student.tokens is None and not by_sample else student.tokens
    real = tokens if tokens is not None and tokens.shape == (len(student.logits), count) else None
    return (real, student.mask, samples_in_step(student, batch)) if by_sample else (real, None, None)


def samples_in_step(student: Knowledge, batch: Batch) -> Tensor | None:
    """How many places count in the whole step: of samples with several labels the samples, however many labels."""
    if batch.valid_total is None or not student.labels:
        return batch.valid_total
    return batch.valid_total / student.logits.shape[1]


def vector_per_row(feature: Tensor, student: Knowledge) -> Tensor:
    """A feature as one vector for each row of logits, (rows, channels): the mean over pixels, or over real tokens.

    Args:
        feature: (batch, channels), (batch, tokens, channels), (batch, channels, height, width), or with all the
            positions of the logits, each of which is a row then.
        student: the network that showed it.

    Raises:
        InputError: for a feature of another shape.
    """
    positions = student.places
    kept = feature if len(positions) > 1 else _without_padding("vector", feature, student.tokens)
    return as_vector(_rows(kept, positions))


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


def _tapped(layers: Layers) -> tuple[str, ...]:
    """Those that have to be read while the network runs; what it gives is known anyway."""
    return tuple(path for path in _paths(layers) if path != OUTPUT)


def _positions(method: FeatureMethod, pair: Sequence[Size], logits: Size, tokens: Size | None) -> Size:
    """What has a row of its own in a pair of features: the positions of the logits, or the tokens of the samples."""
    if tokens is None or len(logits) > 1 or method.batch_coupled or method.form not in ("any", "tokens"):
        return logits
    return tokens if all(_has_positions(feature, tokens) for feature in pair) else logits


def _rows(feature: Tensor, positions: Size) -> Tensor:
    """A feature that has all these positions, with one row for each of them; any other as it is."""
    if len(positions) > 1 and _has_positions(feature.shape, positions):
        return feature.flatten(0, len(positions) - 1)
    return feature


def _without_padding(form: Form, feature: Tensor, tokens: Tensor | None) -> Tensor:
    """Zeros in place of padding, of samples that stay whole; read as a vector, the mean of the real tokens."""
    if form == "map" or tokens is None or not _has_positions(feature.shape, tokens.shape):
        return feature
    kept = feature.masked_fill(~tokens[..., None], 0.0)
    return kept.sum(1) / tokens.sum(1, keepdim=True).clamp_min(1).to(kept.dtype) if form == "vector" else kept


def _has_tokens(feature: Size, shapes: Shapes) -> bool:
    return shapes.tokens is not None and len(feature) == 3 and feature[:2] == shapes.tokens


def _has_positions(feature: Size, positions: Size) -> bool:
    return len(feature) == len(positions) + 1 and feature[:-1] == positions
