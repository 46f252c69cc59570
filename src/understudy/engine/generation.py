"""How images are made where there are none: a generator, and what it is trained for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeInt, model_validator
from torch import Tensor

from understudy.engine.training import Count, Optimizer
from understudy.functional.divergences import kl_divergence
from understudy.functional.generation import imbalance, indecision, logit_distance
from understudy.spec import Spec

Share = Annotated[float, Field(ge=0.0)]


class Generation(Spec):
    r"""A generator of images, trained in turns with the student, and the weights of what it is trained for.

    .. math:: -\lambda_a D(S, T) + \lambda_o L_{oh} + \lambda_b L_{ie} + \lambda_s \sum_l R_l

    The generator looks for images on which the student does not yet answer like the teacher (D), which the teacher is
    sure about (oh), which are spread over all classes (ie), and which give its batch normalisations the statistics that
    they saw in training (R; nothing for a teacher without any). The parts are those of DFAD and ZSKT (Fang et al. 2019,
    arXiv:1912.11006; Micaelli, Storkey, NeurIPS 2019, arXiv:1905.09768), DAFL (Chen et al., ICCV 2019,
    arXiv:1904.01186; without its activation loss, whose place the statistics take) and DeepInversion (Yin et al.,
    CVPR 2020, arXiv:1912.08795). No paper weighs all four together: the defaults are what worked here for handwritten
    digits and small convolutional teachers with batch normalisation.
    """

    latent: Count = 64
    """Values of noise from which an image is made."""
    widths: Annotated[tuple[Count, ...], Field(min_length=1)] = (32, 16)
    """Channels of the generator's blocks, from the noise on; each block doubles the sides of the picture."""
    every: Count = 1
    """Batches of the student from one turn of the generator to the next (DFAD: 5, DAFL: 1)."""
    steps: NonNegativeInt = 1
    """Steps of the generator in one turn; 0 leaves it as it was drawn."""
    epoch: Count = 250
    """Batches that count as one epoch."""
    optimizer: Optimizer = Optimizer(kind="adam", lr=3e-3)
    """What updates the generator's weights (DFAD for MNIST: adam with 1e-3)."""
    discrepancy: Literal["l1", "kl"] = "l1"
    """How student and teacher are compared: `l1` of the logits (DFAD), or `kl`, the divergence of the student's
    probabilities from the teacher's (ZSKT)."""
    adversarial: Share = 0.3
    """Weight of the discrepancy, which the generator enlarges (DFAD: 1, and nothing else)."""
    one_hot: Share = 0.3
    """Weight of the teacher's indecision (DAFL for MNIST: 1)."""
    balance: Share = 5.0
    """Weight of the lack of balance between the classes (DAFL for MNIST: 5 with logarithms of base 10, 2.2 in nats)."""
    statistics: Share = 5.0
    """Weight of the distance from the statistics of the teacher's batch normalisations, summed over its layers
    (DeepInversion for CIFAR-10: 10)."""

    @model_validator(mode="after")
    def _some_aim(self) -> Generation:
        if self.steps and not (self.adversarial or self.one_hot or self.balance or self.statistics):
            raise ValueError(
                "all weights are 0, so there is nothing to train the generator for; give one of adversarial, one_hot, "
                "balance and statistics, or steps: 0 for images of a generator that is never trained"
            )
        return self


def generator_terms(
    student_logits: Tensor | None, teacher_logits: Tensor, gaps: Mapping[str, Tensor], *, generation: Generation
) -> dict[str, Tensor]:
    """The terms of the generator's loss, unweighted, by the names of their weights; those of weight 0 are left out.

    Args:
        student_logits: (N, classes), of generated images; None where the adversarial term has no weight.
        teacher_logits: (N, classes), of the same images.
        gaps: the distance of statistics of each batch normalisation of the teacher, by its path.
        generation: the weights.
    """
    terms = {}
    if generation.adversarial and student_logits is not None:
        distance = logit_distance if generation.discrepancy == "l1" else kl_divergence
        terms["adversarial"] = -distance(student_logits, teacher_logits).mean()
    if generation.one_hot:
        terms["one_hot"] = indecision(teacher_logits)
    if generation.balance:
        terms["balance"] = imbalance(teacher_logits)
    if generation.statistics and gaps:
        terms["statistics"] = torch.stack(list(gaps.values())).sum()
    return terms
