"""Distillation of several labels at once."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from understudy.batch import Batch
from understudy.functional.divergences import soft_target_loss
from understudy.functional.sigmoid import sigmoid_target_loss
from understudy.knowledge import Knowledge
from understudy.objective import Method


@final
class SigmoidTargets(Method):
    r"""Soft targets where a sample may have several labels: each class is a yes or no of its own.

    .. math:: \tau^2 \, \frac{1}{N} \sum_i \sum_k \mathrm{KL}\big((p^T_{ik}, 1 - p^T_{ik}) \,\|\,
        (p^S_{ik}, 1 - p^S_{ik})\big), \quad p = \sigma(z / \tau)

    Scale: in nats, summed over classes, averaged over positions, times :math:`\tau^2`; 0 at equality. It is the
    paper's logits distillation (MLD) alone, without that of the label-wise embeddings; paper and authors' code have
    no temperature, as here by default. The code clamps probabilities to 1e-8 from both ends, which takes the
    gradient from a student that is surely wrong; here it is kept. In their recipes its weight is 10. The gradient
    goes to the student only.

    In the task of several labels each label is a position, over which the mean is taken instead of the sum: divided by
    K, and the same as ``SoftTargets``.

    Example:
        >>> 10 * SigmoidTargets()
        SigmoidTargets(kind='sigmoid_targets', weight=10.0, name=None, temperature=1.0)
    """

    paper: ClassVar[str] = "Yang et al.: Multi-Label Knowledge Distillation, ICCV 2023 (arXiv:2308.06453)"
    by_position: ClassVar[bool] = True

    kind: Literal["sigmoid_targets"] = "sigmoid_targets"
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """τ: divides both logits; higher shows more of the classes that the teacher is sure of."""

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """Mean over the positions that count, labelled or not."""
        if student.labels:  # no and yes stand side by side already
            return soft_target_loss(
                student.logits,
                teacher.logits,
                temperature=self.temperature,
                mask=student.mask,
                total=batch.valid_total,
            )
        return sigmoid_target_loss(
            student.logits,
            teacher.logits,
            temperature=self.temperature,
            mask=student.mask,
            total=batch.valid_total,
        )
