"""What one forward pass of a network reveals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Size, Tensor

from understudy.functional.drawn_classes import drawn_logits
from understudy.functional.top_classes import spread_logits
from understudy.functional.vocabulary import Head

Answers = Literal["classes", "numbers", "vectors"]
"""What the last dimension of logits is: scores of classes; numbers, each with a meaning of its own; or a vector, of
which only the directions and distances to others mean something."""
OUTPUT = ":output"
"""What methods on layers call the network's own answer; no path of a layer begins like that."""


@dataclass(frozen=True, slots=True)
class TopClasses:
    """Which classes a teacher that does not tell all of them tells.

    Attributes:
        kept: int64 (..., k), the likeliest classes of each position, in any order; or draws.
        tails: by temperature the logit of all other classes together, (...,); always that of temperature 1, of draws
            none.
        classes: how many classes there are.
        drawn: whether ``kept`` were drawn by their probability, so that one may stand there several times; the logits
            are then the logarithms of their probabilities.
    """

    kept: Tensor
    tails: Mapping[float, Tensor]
    classes: int
    drawn: bool = False


@dataclass(frozen=True, slots=True)
class BeforeHead:
    """Logits that are still to be computed, for a few positions at a time.

    Attributes:
        hidden: (..., width), what goes into a network's last layer.
        head: that layer.
        chunk: positions at a time; None: about a million logits.
    """

    hidden: Tensor
    head: Head
    chunk: int | None = None


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a student shows, or a teacher answers, for one batch.

    Attributes:
        logits: (..., classes), unnormalised scores; the class dimension is always the last one. Beside ``top`` those
            of the classes that are kept. Of a task whose answers are numbers, or vectors, these.
        features: outputs of the tapped layers, by dotted path, as the layers gave them.
        mask: bool, shape of ``logits`` without the class dimension: the positions that count. None: all do.
        tokens: bool (batch, tokens): which tokens of each sample are real, for features (batch, tokens, channels) of a
            network whose logits are per sample; False for padding. None: all are.
        tokenization: by what the network itself made its tokens, as a digest; None where it made none.
        members: the same of each of several students or teachers, by name; empty for a single one.
        top: which classes the logits are about, and what is known of the others; None: they are about all.
        decoded: whether the positions are those of a decoder, beside an encoder with positions of its own.
        labels: whether the positions beside the batch are labels of a sample, each a question of its own, and no
            places in it: a feature has no row for each of them.
        before_head: what the logits can be computed from, where a network stopped before its last layer: ``logits``
            then have their shape, and no values. None: they are there.
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)
    mask: Tensor | None = None
    tokens: Tensor | None = None
    tokenization: str | None = None
    members: Mapping[str, Knowledge] = field(default_factory=dict)
    top: TopClasses | None = None
    decoded: bool = False
    labels: bool = False
    before_head: BeforeHead | None = None

    @property
    def computed(self) -> Tensor:
        """The last that the network computed, one row for each sample: its logits, or what goes into its head."""
        return self.logits if self.before_head is None else self.before_head.hidden

    @property
    def places(self) -> Size:
        """The positions of the logits that a feature can have a row for: (batch,), or (batch, tokens) and the like."""
        return self.logits.shape[:1] if self.labels else self.logits.shape[:-1]

    @property
    def shape(self) -> Size:
        """Of the logits of all classes, kept or not."""
        return self.logits.shape if self.top is None else Size((*self.logits.shape[:-1], self.top.classes))

    @property
    def dense(self) -> Tensor:
        """The logits of all classes; those that are not kept share what is left of the probability equally."""
        if self.top is None:
            return self.logits
        if self.top.drawn:
            return drawn_logits(self.logits, self.top.kept, classes=self.top.classes)
        return spread_logits(self.logits, self.top.kept, self.top.tails[1.0], classes=self.top.classes)

    def layer(self, path: str) -> Tensor:
        """The output of a layer, or of the network itself.

        Args:
            path: of one that was read, or :data:`OUTPUT`.
        """
        return self.logits if path == OUTPUT else self.features[path]

    def of(self, name: str | None) -> Knowledge:
        """What one of several networks showed; without a name, what they show together."""
        return self if name is None else self.members[name]


@dataclass(frozen=True, slots=True)
class Shapes:
    """The shapes that a method's own modules are built for, seen on an example batch.

    Attributes:
        student: shape of each tapped student layer, by path; the batch dimension comes first.
        teacher: the same for the teacher; empty when there is none.
        student_logits: shape of the student's logits.
        teacher_logits: shape of the teacher's logits, None without a teacher.
        tokens: shape of the student's mask of real tokens, None without one.
        same_tokens: False where both networks make tokens of a text, and not the same ones.
        labels: whether each sample has several labels, as in :class:`Knowledge`.
        decoded: whether the logits are those of a decoder beside an encoder.
    """

    student: Mapping[str, Size]
    teacher: Mapping[str, Size]
    student_logits: Size
    teacher_logits: Size | None
    tokens: Size | None = None
    same_tokens: bool = True
    labels: bool = False
    decoded: bool = False

    @property
    def places(self) -> Size:
        """The positions of the logits that a feature can have a row for."""
        return self.student_logits[:1] if self.labels else self.student_logits[:-1]

    def of_student(self, path: str) -> Size:
        """The shape of one of the student's layers, or of its own answer, :data:`OUTPUT`."""
        return self.student_logits if path == OUTPUT else self.student[path]

    def of_teacher(self, path: str) -> Size:
        """The same of the teacher."""
        if path != OUTPUT:
            return self.teacher[path]
        assert self.teacher_logits is not None  # terms on a teacher's layers have one
        return self.teacher_logits

    @staticmethod
    def of(student: Knowledge, teacher: Knowledge | None) -> Shapes:
        """Read the shapes off what both networks gave for the same batch."""
        return Shapes(
            student={path: feature.shape for path, feature in student.features.items()},
            teacher={path: feature.shape for path, feature in teacher.features.items()} if teacher else {},
            student_logits=student.shape,
            teacher_logits=teacher.shape if teacher else None,
            tokens=student.tokens.shape if student.tokens is not None else None,
            same_tokens=teacher is None or len({student.tokenization, teacher.tokenization} - {None}) < 2,
            labels=student.labels,
            decoded=student.decoded,
        )


@dataclass(frozen=True, slots=True)
class Attention:
    """An attention layer of a network.

    Attributes:
        path: of the layer.
        projections: the layers inside that make its queries, keys and values, or the one that makes all three.
        matrices: how a tap reads its attention matrices, (batch, heads, tokens, tokens); None when it keeps them.
    """

    path: str
    projections: tuple[str, ...]
    matrices: str | None = None


@dataclass(frozen=True, slots=True)
class LayerPairs:
    """Layers of a student and of a teacher that belong together, as pairs of paths (student, teacher).

    Attributes:
        stages: the ends of corresponding stages, from the input to the output.
        penultimate: at most one pair: the features that the last layer classifies.
        classifier: at most one pair: the single linear layers that give the logits.
        attentions: all attention layers of the student, and all of the teacher.
    """

    stages: tuple[tuple[str, str], ...] = ()
    penultimate: tuple[tuple[str, str], ...] = ()
    classifier: tuple[tuple[str, str], ...] = ()
    attentions: tuple[tuple[Attention, ...], tuple[Attention, ...]] = ((), ())

    def attention(self, side: int, layer: str) -> Attention | None:
        """The attention layer that a layer is, or the only one inside of it.

        Args:
            side: 0 of the student, 1 of the teacher.
            layer: an attention layer, the layer that makes its queries, keys and values, or one around it.
        """
        known = self.attentions[side]
        same = [attention for attention in known if layer in (attention.path, *attention.projections)]
        found = same or [attention for attention in known if attention.path.startswith(f"{layer}.")]
        return found[0] if len(found) == 1 else None
