"""Distillation by softened class probabilities, at temperatures that follow from each sample."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field
from torch import Tensor

from understudy.batch import Batch
from understudy.functional.temperatures import dynamic_temperature_loss
from understudy.knowledge import Knowledge
from understudy.objective import Method


@final
class DynamicTemperature(Method):
    r"""Soft targets at two temperatures per sample, student's and teacher's, which make both equally sharp (DTKD).

    .. math:: \frac{1}{N} \sum_i \tau^S_i \tau^T_i \, \mathrm{KL}(p^T_i \| p^S_i), \quad
        p_i = \mathrm{softmax}(z_i / \tau_i), \quad \tau^S_i = \frac{2 y_i}{x_i + y_i} \tau, \quad
        \tau^T_i = \frac{2 x_i}{x_i + y_i} \tau

    where x is the largest logit of the teacher and y of the student: the surer of the two is softened more.

    Scale: summed over classes, averaged over positions, times both temperatures; 0 at equality, and where the
    student's logits are a positive multiple of the teacher's. The paper measures sharpness by the logarithm of the sum
    of exponentials; the authors' code, followed here, by the largest logit, which stands for it. Where a largest logit
    is below 1e-3, for which neither has a positive temperature, it counts as 1e-3. The authors add ``SoftTargets`` with
    the same temperature at weight 1 to three times this term and the cross-entropy, and raise both from 0 in the first
    20 epochs: give the weights a schedule for that. The gradient goes to the student only, through the temperatures
    too.

    Example:
        >>> 3 * DynamicTemperature(temperature=4.0)
        DynamicTemperature(kind='dynamic_temperature', weight=3.0, name=None, temperature=4.0)
    """

    paper: ClassVar[str] = "Wei, Bai: Dynamic Temperature Knowledge Distillation, 2024 (arXiv:2404.12711)"
    among_classes: ClassVar[bool] = True
    by_position: ClassVar[bool] = True

    kind: Literal["dynamic_temperature"] = "dynamic_temperature"
    temperature: Annotated[float, Field(gt=0.0)] = 4.0
    """τ: the mean of the student's and the teacher's temperature for every sample."""

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """Mean divergence over the positions that count."""
        return dynamic_temperature_loss(
            student.logits,
            teacher.logits,
            temperature=self.temperature,
            mask=student.mask,
            total=batch.valid_total,
        )
