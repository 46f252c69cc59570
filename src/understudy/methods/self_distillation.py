"""Distillation of a network into its own earlier stages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, final

import torch
from pydantic import Field, model_validator
from torch import Size, Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError, listing
from understudy.feature_method import Layers, vector_per_row
from understudy.functional.exits import early_exit_loss
from understudy.knowledge import Knowledge, LayerPairs, Shapes
from understudy.objective import Method
from understudy.pairing import MOST_STAGES, evenly

_LEAST_WIDTH = 8


@final
class SelfDistillation(Method):
    r"""The student's last output teaches exits at its earlier stages, and through them the stages (BYOT).

    .. math:: \sum_{e} (1 - \alpha) \, H(y, p_e) + \alpha \, \mathrm{KL}(q_\tau \| p_{e, \tau})
        + \lambda \, \| f_e - g \|_2^2, \quad q_\tau = \mathrm{softmax}(\hat z / \tau)

    with the exit's prediction p and feature f, the student's own logits and the feature g of its last stage. There is
    no teacher: add ``CrossEntropy()``, from which the last output learns. An exit is a bottleneck to the width of the
    last stage, averaged over pixels or tokens, and a classifier: 1×1, one strided 3×3 convolution for each halving of
    the resolution up to the last stage, 1×1; or two linear layers. Within it is as wide as the stage, at most a quarter
    of the last one. It is normalised per sample, where the authors' is per batch; it trains with the student, belongs
    to the objective, and is not part of the student.

    Scale: nats, summed over classes, averaged over positions, those with a label for the first part; the squared
    distance of the features is summed over channels; all exits are summed. Where an exit equals the last output, the
    first part is left, 0 at best. The paper leaves α and λ open; they and τ are those of the authors' code for its
    longer version, which has no :math:`\tau^2`, the cross-entropy for the divergence (the same gradient), and the
    distance of the whole batch in place of the squared one, after one more linear layer. The gradient goes to the
    student up to the exits' stages, and to the exits; the last output and its feature are constants. The control does
    without this term.

    Example:
        >>> SelfDistillation()
        SelfDistillation(kind='self_distillation', weight=1.0, name=None, student_layer='auto', alpha=0.3,
            feature_weight=0.03, temperature=3.0)
    """

    paper: ClassVar[str] = (
        "Zhang et al.: Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks via Self "
        "Distillation, ICCV 2019 (arXiv:1905.08094)"
    )
    needs_teacher: ClassVar[bool] = False
    self_taught: ClassVar[bool] = True
    needs_one_label: ClassVar[bool] = True
    among_classes: ClassVar[bool] = True

    kind: Literal["self_distillation"] = "self_distillation"
    student_layer: Layers = "auto"
    """Dotted paths of two or more stages, the last one at the end; all others get an exit. ``auto`` finds them."""
    alpha: Annotated[float, Field(ge=0.0, le=1.0)] = 0.3
    """α: the part of an exit's loss that is about the last output; the rest is about the labels."""
    feature_weight: Annotated[float, Field(ge=0.0)] = 0.03
    """λ: weight of the distance between an exit's feature and that of the last stage."""
    temperature: Annotated[float, Field(gt=0.0)] = 3.0
    """τ: divides both logits where the last output teaches."""

    @model_validator(mode="after")
    def _two_stages(self) -> SelfDistillation:
        if self.student_layer != "auto" and len(self.student_taps) < 2:
            raise ValueError(
                f"student_layer names only {listing(self.student_taps)}; expected the stages that get an exit, and "
                "after them the last one, or 'auto'"
            )
        return self

    @property
    def student_taps(self) -> tuple[str, ...]:
        """All stages, the last one at the end; none before ``auto`` is resolved."""
        if isinstance(self.student_layer, str):
            return () if self.student_layer == "auto" else (self.student_layer,)
        return self.student_layer

    @property
    def wants_pairs(self) -> bool:
        """Whether the stages are still to be found."""
        return self.student_layer == "auto"

    def paired(self, pairs: LayerPairs) -> Method:
        """The same term with the student's stages, or four blocks at even distances, for ``auto``.

        Raises:
            InputError: when it has no two stages.
        """
        if not self.wants_pairs:
            return self
        stages = evenly([own for own, _ in pairs.stages], MOST_STAGES)
        if len(stages) < 2:
            raise InputError(
                f"{self.label}: found no two stages of the student; name them with student_layer, the last one at the "
                "end (`understudy layers` lists its layers)"
            )
        return self.model_copy(update={"student_layer": tuple(stages)})

    def build(self, shapes: Shapes) -> nn.Module:
        """The exits.

        Raises:
            InputError: naming every stage that has no vector for each row of logits.
        """
        positions, classes = shapes.student_logits[:-1], shapes.student_logits[-1]
        stages = [shapes.student[path] for path in self.student_taps]
        problems = [
            f"{self.label} ({path!r}): a feature of shape {tuple(shape)} has no vector for each row of logits "
            f"{tuple(shapes.student_logits)}; expected {_expected(positions)}"
            for path, shape in zip(self.student_taps, stages, strict=True)
            if not _has_rows(shape, positions)
        ]
        if problems:
            raise InputError("\n".join(problems))
        return Exits(self, stages if len(positions) == 1 else [shape[-1:] for shape in stages], classes)


class Exits(nn.Module):
    """The exits of all stages but the last one.

    Args:
        method: layers and hyper-parameters.
        stages: shape of each stage's feature, the batch first; (channels,) where the logits' positions are rows.
        classes: of the student.
    """

    def __init__(self, method: SelfDistillation, stages: Sequence[Size], classes: int) -> None:
        super().__init__()
        self.method = method
        self.exits = nn.ModuleList(Exit(stage, stages[-1], classes) for stage in stages[:-1])

    def forward(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:  # noqa: ARG002 - no teacher
        """The sum over the exits."""
        *earlier, last = (student.features[path] for path in self.method.student_taps)
        logits, feature = student.logits.flatten(0, -2), vector_per_row(last, student)
        targets = batch.targets.flatten() if batch.targets is not None else None
        mask = student.mask.flatten() if student.mask is not None else None
        losses = []
        for own, shown in zip(self.exits, earlier, strict=True):
            is_map = shown.ndim == 4 and student.logits.ndim == 2
            predicted, reached = own(shown if is_map else vector_per_row(shown, student))
            losses.append(
                early_exit_loss(
                    predicted,
                    logits,
                    student_feature=reached,
                    teacher_feature=feature,
                    targets=targets,
                    alpha=self.method.alpha,
                    feature_weight=self.method.feature_weight,
                    temperature=self.method.temperature,
                    mask=mask,
                    labelled_total=batch.labelled_total,
                    total=batch.valid_total,
                )
            )
        return torch.stack(losses).sum()


class Exit(nn.Module):
    """A bottleneck to the width of the last stage, and a classifier.

    Args:
        stage: shape of the stage's feature, (batch, channels, height, width), or the channels last.
        last: the same of the last stage.
        classes: how many there are to tell.
    """

    def __init__(self, stage: Size, last: Size, classes: int) -> None:
        super().__init__()
        width = _channels(last)
        hidden = max(min(_channels(stage), width // 4), _LEAST_WIDTH)
        if len(stage) == 4:
            halvings = max(round(math.log2(stage[2] / last[2])), 0) if len(last) == 4 else 0
            layers = [*_normalised(nn.Conv2d(stage[1], hidden, kernel_size=1, bias=False), hidden)]
            for _ in range(halvings):
                layers += _normalised(nn.Conv2d(hidden, hidden, 3, stride=2, padding=1, bias=False), hidden)
            layers += [nn.Conv2d(hidden, width, kernel_size=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        else:
            layers = [*_normalised(nn.Linear(stage[-1], hidden, bias=False), hidden), nn.Linear(hidden, width)]
        self.bottleneck = nn.Sequential(*layers)
        self.classifier = nn.Linear(width, classes)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """(rows, channels) or (rows, channels, height, width) to logits (rows, classes) and a feature (rows, width)."""
        reached = self.bottleneck(feature)
        return self.classifier(reached), reached


def _normalised(layer: nn.Module, width: int) -> list[nn.Module]:
    return [layer, nn.GroupNorm(1, width), nn.ReLU()]


def _channels(feature: Size) -> int:
    return feature[1] if len(feature) == 4 else feature[-1]


def _has_rows(feature: Size, positions: Size) -> bool:
    """Whether a feature has one vector, or several to average, for each row of logits."""
    return len(feature) in (2, 3, 4) if len(positions) == 1 else feature[:-1] == positions


def _expected(positions: Size) -> str:
    if len(positions) == 1:
        return "(N, C), (N, T, C) or (N, C, H, W)"
    return f"({', '.join(map(str, positions))}, C); of pixels or tokens with logits of their own, each needs its vector"
