"""Several labels per sample, each a yes or no of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from understudy.batch import IGNORE_INDEX, Batch
from understudy.errors import InputError
from understudy.knowledge import Knowledge
from understudy.methods.cross_entropy import CrossEntropy
from understudy.objective import Method
from understudy.tasks.classification import first_samples, inputs_and_targets, scores_of_samples
from understudy.tasks.task import Task

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection

ANSWERS = ("no", "yes")
"""What each label can be answered with, in the order of the logits."""


@final
class MultiLabelClassification(Task):
    r"""Any number of labels for each sample, whatever the samples are: texts, images, vectors.

    A network gives one number z per label, and :math:`\sigma(z)` is the probability that the sample has it. What
    methods see are the two logits (0, z) of no and yes, whose softmax is that probability: logits (batch, labels, 2),
    targets (batch, labels) of 0, 1, and ``IGNORE_INDEX`` where it is not known. A position is a sample and a label.

    Scale: ``CrossEntropy`` is the binary cross-entropy, averaged over all labels of all samples that are known;
    ``SoftTargets`` and ``SigmoidTargets`` are both the binary divergence at :math:`\tau`, times :math:`\tau^2`,
    averaged over all labels of all samples. Where a paper sums over the labels, multiply by their number.

    Example:
        >>> task = MultiLabelClassification(labels=3)
        >>> batch = task.batch((torch.rand(1, 4), torch.tensor([[1, 0, -100]])))
        >>> task.observe(nn.Linear(4, 3), batch).logits.shape
        torch.Size([1, 3, 2])
    """

    counted: ClassVar[str] = "labels"
    kind: Literal["multi_label_classification"] = "multi_label_classification"
    metric: Literal["f1", "micro_f1", "accuracy", "exact_match", "mean_average_precision"] = "f1"
    """What selects and what reports begin with: the mean over the labels of F1 (`f1`) or of the average precision,
    which looks at the order of the samples and at no threshold; F1 of all labels together (`micro_f1`); how often a
    label is answered rightly (`accuracy`, high for whoever says no to labels that are rare), or all of a sample."""
    labels: Annotated[int, Field(ge=2)] | None = None
    """How many labels there are; needed to measure quality. In a recipe it is known from the data."""

    def of_classes(self, count: int) -> MultiLabelClassification:
        """The same for data of so many labels, unless it is said."""
        return self if self.labels is not None else self.model_copy(update={"labels": count})

    def choices(self, classes: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002 - the same for all
        """No and yes."""
        return ANSWERS

    def refuses(self, term: Method) -> str | None:
        """A term that is about classes among each other, which yes and no are not."""
        if not term.among_classes:
            return super().refuses(term)
        return (
            f"{term.label} compares the classes of a sample among each other, and with several labels each is a yes or "
            "no of its own; use soft_targets or sigmoid_targets instead"
        )

    def batch(self, raw: Any) -> Batch:
        """Accept (inputs, targets), (inputs,), an input tensor, or a mapping with ``labels`` or ``label``.

        Targets are (batch, labels): 0, 1 and ``IGNORE_INDEX``; floats of these values will do, and NaN is not known.

        Raises:
            InputError: for anything else, or a batch with a mask: what is not known is so in the targets.
        """
        if isinstance(raw, Batch):
            if raw.mask is not None:
                raise InputError(
                    f"a batch of several labels has no mask; expected {IGNORE_INDEX} in the targets where one is not "
                    "known"
                )
            return raw
        inputs, targets = inputs_and_targets(raw)
        return Batch(inputs=inputs, targets=None if targets is None else self._checked(targets))

    def observe(self, model: nn.Module, batch: Batch) -> Knowledge:
        """Call the model with the batch's inputs; the logits of no and yes for each of its outputs.

        Raises:
            InputError: when the output is not (batch, labels).
        """
        found = scores_of_samples(model, batch)
        yes = found.logits
        if self.labels is not None and yes.shape[1] != self.labels:
            raise InputError(f"the model has {yes.shape[1]} outputs, expected one for each of {self.labels} labels")
        return replace(found, logits=torch.stack([torch.zeros_like(yes), yes], -1), labels=True)

    @property
    def supervised(self) -> Method:
        """Binary cross-entropy of each label."""
        return CrossEntropy()

    def metrics(self, classes: int) -> MetricCollection:  # noqa: ARG002 - no and yes
        """Accuracy, exact match, macro precision, recall, F1 and average precision, micro F1, calibration error.

        A label without a single yes counts as 0 in the means, but in that of the average precision it is left out.

        Raises:
            InputError: when nothing says how many labels there are.
        """
        from torchmetrics import MetricCollection
        from torchmetrics.classification import (
            BinaryCalibrationError,
            MultilabelAccuracy,
            MultilabelExactMatch,
            MultilabelF1Score,
            MultilabelPrecision,
            MultilabelRecall,
        )

        from understudy.tasks.average_precision import MeanAveragePrecision

        labels, unknown = self._number(), IGNORE_INDEX
        return MetricCollection(
            {
                "accuracy": MultilabelAccuracy(labels, average="micro", ignore_index=unknown),
                "exact_match": MultilabelExactMatch(labels, ignore_index=unknown),
                "precision": MultilabelPrecision(labels, average="macro", ignore_index=unknown),
                "recall": MultilabelRecall(labels, average="macro", ignore_index=unknown),
                "f1": MultilabelF1Score(labels, average="macro", ignore_index=unknown),
                "micro_f1": MultilabelF1Score(labels, average="micro", ignore_index=unknown),
                "mean_average_precision": MeanAveragePrecision(),
                "calibration_error": BinaryCalibrationError(n_bins=15, ignore_index=unknown),
            }
        )

    def example(self, inputs: Any, count: int) -> Any:
        """The first ``count`` samples."""
        return first_samples(inputs, count)

    def count(self, metrics: Metric | MetricCollection, logits: Tensor, targets: Tensor) -> None:
        """Let metrics count samples: they are given probabilities and targets, both (samples, labels).

        Args:
            metrics: some of :meth:`metrics`, or one of them.
            logits: (positions, 2), those of each sample in the order of the labels.
            targets: (positions,).
        """
        labels = self._number()
        metrics.update((logits[:, 1] - logits[:, 0]).sigmoid().view(-1, labels), targets.view(-1, labels))

    def probabilities(self, logits: Tensor) -> Tensor:
        """How likely each sample has each label, (batch, labels)."""
        return (logits[..., 1] - logits[..., 0]).sigmoid()

    def _number(self) -> int:
        if self.labels is None:
            raise InputError("to measure quality, say how many labels there are: MultiLabelClassification(labels=…)")
        return self.labels

    def _checked(self, targets: Any) -> Tensor:
        if not isinstance(targets, Tensor) or targets.ndim != 2 or targets.is_complex():
            shown = tuple(targets.shape) if isinstance(targets, Tensor) else type(targets).__name__
            raise InputError(f"targets are {shown}; expected a tensor (batch, labels) of 0, 1 and {IGNORE_INDEX}")
        if self.labels is not None and targets.shape[1] != self.labels:
            raise InputError(f"targets have the shape {tuple(targets.shape)}, expected (batch, {self.labels})")
        whole = targets.nan_to_num(nan=IGNORE_INDEX) if targets.is_floating_point() else targets
        strange = (whole != 0) & (whole != 1) & (whole != IGNORE_INDEX)
        if strange.any():
            raise InputError(
                f"targets hold {whole[strange][0].item():g}; expected 0, 1, or {IGNORE_INDEX} where a label is not "
                "known"
            )
        return whole.long()
