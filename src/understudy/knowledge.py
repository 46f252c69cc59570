"""What one forward pass of a network reveals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Size, Tensor


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a student shows, or a teacher answers, for one batch.

    Attributes:
        logits: (..., classes), unnormalised scores; the class dimension is always the last one.
        features: outputs of the tapped layers, by dotted path, as the layers gave them.
        mask: bool, shape of ``logits`` without the class dimension: the positions that count. None: all do.
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)
    mask: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Shapes:
    """The shapes that a method's own modules are built for, seen on an example batch.

    Attributes:
        student: shape of each tapped student layer, by path; the batch dimension comes first.
        teacher: the same for the teacher; empty when there is none.
        student_logits: shape of the student's logits.
        teacher_logits: shape of the teacher's logits, None without a teacher.
    """

    student: Mapping[str, Size]
    teacher: Mapping[str, Size]
    student_logits: Size
    teacher_logits: Size | None

    @staticmethod
    def of(student: Knowledge, teacher: Knowledge | None) -> Shapes:
        """Read the shapes off what both networks gave for the same batch."""
        return Shapes(
            student={path: feature.shape for path, feature in student.features.items()},
            teacher={path: feature.shape for path, feature in teacher.features.items()} if teacher else {},
            student_logits=student.logits.shape,
            teacher_logits=teacher.logits.shape if teacher else None,
        )


@dataclass(frozen=True, slots=True)
class LayerPairs:
    """Layers of a student and of a teacher that belong together, as pairs of paths (student, teacher).

    Attributes:
        stages: the ends of corresponding stages, from the input to the output.
        penultimate: at most one pair: the features that the last layer classifies.
    """

    stages: tuple[tuple[str, str], ...] = ()
    penultimate: tuple[tuple[str, str], ...] = ()
