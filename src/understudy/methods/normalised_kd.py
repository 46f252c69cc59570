"""Distillation of the trust in the label, and of the other classes on their own."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from understudy.batch import Batch
from understudy.functional.decoupling import normalised_kd_loss
from understudy.knowledge import Knowledge
from understudy.objective import Method


@final
class NormalisedKd(Method):
    r"""Cross-entropy weighted by the teacher's trust in the label, and soft targets of the other classes.

    .. math:: -\frac{1}{|L|} \sum_{i \in L} \Big(p^T_{iy} \log p^S_{iy}
        + \gamma \tau^2 \sum_{k \ne y} \hat p^T_{ik} \log \hat p^S_{ik}\Big), \quad
        \hat p = \mathrm{softmax}(z_{k \ne y} / \tau)

    The other classes are normalised on their own, so that student and teacher distribute the same mass. Only
    labelled positions count, as the true class y has to be known; for the others add
    ``SoftTargets(rows="unlabelled")``. Scale: nats, summed over classes, averaged over the labelled positions; two
    cross-entropies, never below 0, but at equality not 0: the teacher's own share of them stays. The first part
    has no temperature. Meant to stand beside the cross-entropy with the labels, as in the paper. The gradient goes
    to the student only.

    Example:
        >>> NormalisedKd()
        NormalisedKd(kind='normalised_kd', weight=1.0, name=None, gamma=1.5, temperature=1.0)
    """

    paper: ClassVar[str] = (
        "Yang et al.: From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized "
        "Loss and Customized Soft Labels, ICCV 2023 (arXiv:2303.13005)"
    )
    needs_one_label: ClassVar[bool] = True
    among_classes: ClassVar[bool] = True
    by_position: ClassVar[bool] = True

    kind: Literal["normalised_kd"] = "normalised_kd"
    gamma: Annotated[float, Field(ge=0.0)] = 1.5
    """γ: weight of the other classes."""
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """τ: divides the logits of the other classes; the paper's λ."""

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """Mean over the labelled positions; without any, a zero that is still connected to the student."""
        if batch.targets is None:
            return student.logits.sum() * 0.0
        return normalised_kd_loss(
            student.logits,
            teacher.logits,
            targets=batch.targets,
            gamma=self.gamma,
            temperature=self.temperature,
            mask=batch.labelled,
            total=batch.labelled_total,
        )
