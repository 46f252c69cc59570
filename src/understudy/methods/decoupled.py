"""Distillation of the true class and of the other classes, apart."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from understudy.batch import Batch
from understudy.functional.decoupling import decoupled_loss
from understudy.knowledge import Knowledge
from understudy.objective import Method


@final
class Decoupled(Method):
    r"""Soft targets in two parts with a weight each: is it the true class, and which of the others is it.

    .. math:: \frac{\tau^2}{|L|} \sum_{i \in L} \alpha \, \mathrm{KL}(b^T_i \| b^S_i)
        + \beta \, \mathrm{KL}(\hat p^T_i \| \hat p^S_i), \quad b = (p_y, 1 - p_y), \quad
        \hat p_k = p_k / (1 - p_y) \text{ for } k \ne y

    Soft targets weigh the second part by what the teacher leaves to the other classes, next to nothing where it is
    sure. Only labelled positions count, as the true class y has to be known; for the others add
    ``SoftTargets(rows="unlabelled")``. Scale: summed over classes, averaged over the labelled positions, times
    :math:`\tau^2`; 0 at equality. Authors' code: the same, with 1000 taken from the true class's logit instead of
    the class left out, and with a weight that rises over the first 20 epochs on CIFAR-100: give it a schedule for
    that. The gradient goes to the student only.

    Example:
        >>> Decoupled(beta=2.0)
        Decoupled(kind='decoupled', weight=1.0, name=None, alpha=1.0, beta=2.0, temperature=4.0)
    """

    paper: ClassVar[str] = "Zhao, Cui, Song, Qiu, Liang: Decoupled Knowledge Distillation, CVPR 2022 (arXiv:2203.08679)"
    needs_one_label: ClassVar[bool] = True
    among_classes: ClassVar[bool] = True
    by_position: ClassVar[bool] = True

    kind: Literal["decoupled"] = "decoupled"
    alpha: Annotated[float, Field(ge=0.0)] = 1.0
    """α: weight of the true class against all others together."""
    beta: Annotated[float, Field(ge=0.0)] = 8.0
    """β: weight of the other classes among each other; the surer the teacher, the more is good."""
    temperature: Annotated[float, Field(gt=0.0)] = 4.0
    """τ: divides both logits; higher shows more of the small probabilities."""

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """Mean over the labelled positions; without any, a zero that is still connected to the student."""
        if batch.targets is None:
            return student.logits.sum() * 0.0
        return decoupled_loss(
            student.logits,
            teacher.logits,
            targets=batch.targets,
            alpha=self.alpha,
            beta=self.beta,
            temperature=self.temperature,
            mask=batch.labelled,
            total=batch.labelled_total,
        )
