"""Distillation by class probabilities where the teacher is right."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from understudy.batch import Batch
from understudy.functional.conditional import conditional_target_loss
from understudy.knowledge import Knowledge
from understudy.objective import Method


@final
class ConditionalTargets(Method):
    r"""The student learns from the teacher where the teacher is right, and from the label where it is wrong.

    .. math:: \frac{1}{N} \sum_i \begin{cases} \tau^2 \, \mathrm{KL}(p^T_i \| p^S_i) &
        \arg\max_k z^T_{ik} = y_i \\ -\log \mathrm{softmax}(z^S_i)_{y_i} & \arg\max_k z^T_{ik} \ne y_i \end{cases},
        \quad p = \mathrm{softmax}(z / \tau)

    It is an objective of its own, without a cross-entropy beside it. Of a sample without a label the teacher is
    believed where its largest probability reaches ``confidence``; the others count as 0 in the mean, so that its
    divisor is the number of all samples, whatever the teacher thinks of them. Samples without a label and both fields
    are not the paper's, which has labels for all, no temperature, and the cross-entropy instead of the divergence: the
    same gradient, shifted by the teacher's entropy. Scale: nats, summed over classes, averaged over the positions that
    count; at equality 0 where the teacher is right, and the cross-entropy with the label where it is wrong. The
    gradient goes to the student only.

    Example:
        >>> ConditionalTargets(confidence=0.9)
        ConditionalTargets(kind='conditional_targets', weight=1.0, name=None, temperature=1.0, confidence=0.9)
    """

    paper: ClassVar[str] = "Meng, Li, Zhao, Gong: Conditional Teacher-Student Learning, ICASSP 2019 (arXiv:1904.12399)"
    by_position: ClassVar[bool] = True

    kind: Literal["conditional_targets"] = "conditional_targets"
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """τ: divides both logits where the teacher is followed; the label is learned at 1."""
    confidence: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """How large the teacher's largest probability has to be where there is no label; at 0 it is always followed."""

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """Mean over the positions that count, labelled or not."""
        return conditional_target_loss(
            student.logits,
            teacher.logits,
            targets=batch.targets,
            temperature=self.temperature,
            confidence=self.confidence,
            mask=student.mask,
            total=batch.valid_total,
        )
