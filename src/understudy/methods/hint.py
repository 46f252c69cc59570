"""Distillation of an intermediate layer."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from torch import Tensor, nn

from understudy.adapters import adapter_for
from understudy.batch import Batch
from understudy.errors import InputError
from understudy.functional.features import hint_loss
from understudy.knowledge import Knowledge, Shapes
from understudy.objective import Method


@final
class Hint(Method):
    r"""A student layer, through a trained adapter, regresses a teacher layer.

    .. math:: \frac{1}{N} \sum_i (r(f^S)_i - f^T_i)^2

    The adapter r is linear, a 1×1 convolution, or a resize, chosen from the two shapes; it trains with the
    student, belongs to the objective, and is not part of the student. Scale: the mean over all elements, in the
    squared unit of the teacher's feature; 0 at equality. The paper sums over elements and halves (eq. 3), and
    trains the hint before the other terms: give the weight a schedule for that. Positions outside the mask do
    not count, as long as the feature has the positions of the logits (samples, tokens); a feature of another
    resolution counts wholly. The gradient goes to the student and to the adapter.

    Example:
        >>> 50 * Hint(student_layer="layer3", teacher_layer="layer3")
        Hint(kind='hint', weight=50.0, name=None, student_layer='layer3', teacher_layer='layer3')
    """

    compares_logits: ClassVar[bool] = False
    paper: ClassVar[str] = "Romero et al.: FitNets: Hints for Thin Deep Nets, ICLR 2015 (arXiv:1412.6550)"

    kind: Literal["hint"] = "hint"
    student_layer: str
    """Dotted path of the student's layer, as ``understudy layers`` prints it."""
    teacher_layer: str
    """Dotted path of the teacher's layer."""

    @property
    def student_taps(self) -> tuple[str, ...]:
        """The guided layer."""
        return (self.student_layer,)

    @property
    def teacher_taps(self) -> tuple[str, ...]:
        """The hint layer."""
        return (self.teacher_layer,)

    def build(self, shapes: Shapes) -> nn.Module:
        """The adapter between the two layers, with the loss."""
        try:
            adapter = adapter_for(shapes.student[self.student_layer], shapes.teacher[self.teacher_layer])
        except InputError as error:
            raise InputError(f"{self.label} ({self.student_layer!r} to {self.teacher_layer!r}): {error}") from error
        return HintTerm(self, adapter)


@final
class HintTerm(nn.Module):
    """The hint with its adapter."""

    def __init__(self, method: Hint, adapter: nn.Module) -> None:
        super().__init__()
        self.method = method
        self.adapter = adapter

    def forward(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """Mean squared difference after the adapter."""
        adapted = self.adapter(student.features[self.method.student_layer])
        hint = teacher.features[self.method.teacher_layer]
        positions = student.logits.shape[:-1]
        if adapted.shape[: len(positions)] != positions:
            return hint_loss(adapted, hint)
        return hint_loss(adapted, hint, positions=len(positions), mask=student.mask, total=batch.valid_total)
