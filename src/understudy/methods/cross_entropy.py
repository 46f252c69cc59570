"""Supervision by true labels."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from understudy.batch import IGNORE_INDEX, Batch
from understudy.functional.logits import cross_entropy_loss, mixed_cross_entropy_loss
from understudy.knowledge import Knowledge
from understudy.objective import Method


@final
class CrossEntropy(Method):
    r"""Cross-entropy with the true labels, averaged over the labelled positions of the batch.

    .. math:: -\frac{1}{|L|} \sum_{i \in L} \log p^S_i(y_i)

    Scale: :math:`\log K` nats for a student that knows nothing of K classes, 0 at best. A batch without any
    label gives a zero that is still connected to the student. The gradient goes to the student.

    A sample that is mixed of two has the loss of both labels, each times its share; where one of them is not known,
    the sample counts as not labelled. (Zhang et al.: mixup, ICLR 2018, arXiv:1710.09412)

    Example:
        >>> 0.1 * CrossEntropy(label_smoothing=0.1)
        CrossEntropy(kind='cross_entropy', weight=0.1, name=None, label_smoothing=0.1)
    """

    paper: ClassVar[str] = "Szegedy et al.: Rethinking the Inception Architecture for Computer Vision, CVPR 2016"
    needs_teacher: ClassVar[bool] = False
    by_position: ClassVar[bool] = True

    kind: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Part of the target's mass that is spread evenly over all classes."""

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:  # noqa: ARG002 - no teacher
        """Mean cross-entropy over the labelled positions."""
        if batch.targets is None:
            return student.logits.sum() * 0.0
        if batch.label_pairs is not None and batch.shares is not None:
            pairs = batch.label_pairs
            return mixed_cross_entropy_loss(
                student.logits,
                pairs if batch.mask is None else pairs.masked_fill(~batch.mask[..., None], IGNORE_INDEX),
                shares=batch.shares,
                label_smoothing=self.label_smoothing,
                total=batch.labelled_total,
            )
        targets = batch.targets if batch.mask is None else batch.targets.masked_fill(~batch.mask, IGNORE_INDEX)
        return cross_entropy_loss(
            student.logits, targets, label_smoothing=self.label_smoothing, total=batch.labelled_total
        )
