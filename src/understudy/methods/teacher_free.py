"""Distillation from a teacher that is made by hand."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from understudy.batch import Batch
from understudy.functional.virtual_teacher import virtual_teacher_loss
from understudy.knowledge import Knowledge
from understudy.objective import Method


@final
class TeacherFree(Method):
    r"""The student learns from a virtual teacher: always right, sure to a given degree, and softened.

    .. math:: \frac{1}{|L|} \sum_{i \in L} \mathrm{KL}(\tilde p_i \| p^S_i), \quad
        \tilde p = \mathrm{softmax}(p^d / \tau), \quad
        p^d_k = \begin{cases} a & k = y \\ (1 - a) / (K - 1) & k \ne y \end{cases}

    The paper's regularisation (Tf-KD reg), not its self-training, which is ``SoftTargets`` with a teacher of the
    student's own kind. Only labelled positions count. Scale: in nats, summed over classes, averaged over the
    labelled positions; 0 where the student equals the softened virtual teacher. The authors' code is followed: it
    puts the probabilities, not their logarithms, into a softmax at τ (at 20 nearly uniform: the true class is 1.05
    times as likely as another), and gives the term no :math:`\tau^2` and the student no temperature, where the paper
    (eq. 9) divides its logits by τ too. But the code averages over the K classes as well, and multiplies that by a
    ``multiplier`` (100 for a ResNet-18 and 100 classes, which is the sum again; 1 for a MobileNetV2): its term is
    this one with the weight ``alpha * multiplier / K``, beside ``1 - alpha`` of the cross-entropy. The gradient goes
    to the student only.

    Example:
        >>> 0.1 * TeacherFree()
        TeacherFree(kind='teacher_free', weight=0.1, name=None, correct_probability=0.99, temperature=20.0)
    """

    paper: ClassVar[str] = (
        "Yuan et al.: Revisiting Knowledge Distillation via Label Smoothing Regularization, CVPR 2020 "
        "(arXiv:1909.11723)"
    )
    needs_teacher: ClassVar[bool] = False
    needs_one_label: ClassVar[bool] = True
    by_position: ClassVar[bool] = True

    kind: Literal["teacher_free"] = "teacher_free"
    correct_probability: Annotated[float, Field(gt=0.0, le=1.0)] = 0.99
    """a: what the virtual teacher gives to the true class before it is softened."""
    temperature: Annotated[float, Field(gt=0.0)] = 20.0
    """τ: softens the virtual teacher, not the student."""

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:  # noqa: ARG002 - no teacher
        """Mean divergence over the labelled positions; without any, a zero still connected to the student."""
        if batch.targets is None:
            return student.logits.sum() * 0.0
        return virtual_teacher_loss(
            student.logits,
            batch.targets,
            correct_probability=self.correct_probability,
            temperature=self.temperature,
            mask=batch.mask,
            total=batch.labelled_total,
        )
