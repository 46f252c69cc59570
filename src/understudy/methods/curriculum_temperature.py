"""Distillation by softened class probabilities at a temperature that is learned against the student."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.functional.divergences import kl_divergence
from understudy.functional.geometry import precise
from understudy.functional.reduction import masked_mean
from understudy.knowledge import Knowledge, Shapes
from understudy.objective import Method


@final
class CurriculumTemperature(Method):
    r"""Soft targets at one temperature for all samples, which is learned to make them hard for the student.

    .. math:: \min_{z^S} \max_\theta \; \tau^2 \, \frac{1}{N} \sum_i \mathrm{KL}(p^T_i \| p^S_i), \quad
        p = \mathrm{softmax}(z / \tau), \quad \tau = \tau_{\min} + (\tau_{\max} - \tau_{\min}) \, \sigma(\theta)

    Student and temperature are trained in the same step: the gradient of θ is multiplied by :math:`-\lambda`. It
    starts at θ = 1, as in the authors' code: τ = 15.6. Scale: summed over classes, averaged over positions, times
    :math:`\tau^2`; 0 at equality. The gradient goes to the student and, reversed, to θ, which belongs to the
    objective; through the softened probabilities of both networks, but not to the teacher. The paper raises λ from
    0 to 1 along a cosine in the first epochs; here it is a constant, as ``weight`` may have a schedule, which then
    counts for the student too. Of the paper's two forms this is the global one; the other predicts a temperature
    for every sample.

    Example:
        >>> CurriculumTemperature().reversal
        1.0
    """

    paper: ClassVar[str] = "Li et al.: Curriculum Temperature for Knowledge Distillation, AAAI 2023 (arXiv:2211.16231)"

    kind: Literal["curriculum_temperature"] = "curriculum_temperature"
    reversal: Annotated[float, Field(ge=0.0)] = 1.0
    """λ: how strongly the temperature works against the student; at 0 it stays where it starts."""
    lowest: Annotated[float, Field(gt=0.0)] = 1.0
    """The temperature's lower limit."""
    highest: Annotated[float, Field(gt=0.0)] = 21.0
    """The temperature's upper limit: 21 in the authors' code, which adds up to 20 to the lower limit."""

    @model_validator(mode="after")
    def _limits_in_order(self) -> CurriculumTemperature:
        if self.lowest > self.highest:
            raise ValueError(f"lowest ({self.lowest}) must not be above highest ({self.highest}); exchange them")
        return self

    def build(self, shapes: Shapes) -> nn.Module:  # noqa: ARG002 - one temperature fits all
        """The term with its temperature."""
        return AdversarialTemperature(self)


class AdversarialTemperature(nn.Module):
    """Soft targets, and the temperature that they are trained against."""

    def __init__(self, method: CurriculumTemperature) -> None:
        super().__init__()
        self.method = method
        self.theta = nn.Parameter(torch.ones(()))

    def temperature(self) -> Tensor:
        """τ, in float32 or better."""
        theta = precise(self.theta)
        return self.method.lowest + (self.method.highest - self.method.lowest) * theta.sigmoid()

    def forward(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """Mean divergence over the positions that count."""
        temperature = _reversed(self.temperature(), self.method.reversal)
        own, answer = precise(student.logits), precise(teacher.logits.detach())
        divergence = kl_divergence(own / temperature, answer / temperature)
        return temperature.square() * masked_mean(divergence, mask=student.mask, total=batch.valid_total)


def _reversed(value: Tensor, strength: float) -> Tensor:
    """The same value; its gradient is multiplied by minus the strength."""
    constant = value.detach()
    return constant - strength * (value - constant)
