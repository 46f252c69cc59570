"""One label per sample: vectors, images, texts, or anything a model turns into (batch, classes)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, final

import torch
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError
from understudy.knowledge import Knowledge
from understudy.methods.cross_entropy import CrossEntropy
from understudy.objective import Method
from understudy.tasks.task import Task
from understudy.tokenizing import network_inputs, tokenization_of

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class _SingleLabel(Task):
    metric: Literal["accuracy", "recall", "f1"] = "accuracy"
    """What selects and what reports begin with. For classes of very different sizes: `recall`, its mean over the
    classes, which is also called balanced accuracy, or `f1`, the same of the harmonic mean with precision."""

    def batch(self, raw: Any) -> Batch:
        """Accept (inputs, targets), (inputs,), an input tensor, or a mapping with ``labels`` or ``label``.

        Raises:
            InputError: for anything else, or targets that are not whole numbers, one per sample.
        """
        if isinstance(raw, Batch):
            return raw
        inputs, targets = inputs_and_targets(raw)
        return Batch(inputs=inputs, targets=None if targets is None else _whole_numbers(targets))

    def observe(self, model: nn.Module, batch: Batch) -> Knowledge:
        """Call the model with the batch's inputs; logits are its output, its ``.logits``, or the first of a tuple.

        Of texts a model is given its own tokens. Which tokens are real is what the ``attention_mask`` says.

        Raises:
            InputError: when the output is not (batch, classes).
        """
        return scores_of_samples(model, batch)

    @property
    def supervised(self) -> Method:
        """Cross-entropy."""
        return CrossEntropy()

    def metrics(self, classes: int) -> MetricCollection:
        """Accuracy, top-5 accuracy, macro precision, recall and F1, expected calibration error."""
        # Here, not above: torchmetrics imports torchvision, transformers and the compiler (seconds).
        from torchmetrics import MetricCollection
        from torchmetrics.classification import (
            MulticlassAccuracy,
            MulticlassCalibrationError,
            MulticlassF1Score,
            MulticlassPrecision,
            MulticlassRecall,
        )

        metrics: dict[str, Any] = {
            "accuracy": MulticlassAccuracy(classes, average="micro"),
            "precision": MulticlassPrecision(classes, average="macro"),
            "recall": MulticlassRecall(classes, average="macro"),
            "f1": MulticlassF1Score(classes, average="macro"),
            "calibration_error": MulticlassCalibrationError(classes, n_bins=15),
        }
        if classes > 5:
            metrics["top5"] = MulticlassAccuracy(classes, average="micro", top_k=5)
        return MetricCollection(metrics)

    def example(self, inputs: Any, count: int) -> Any:
        """The first ``count`` samples."""
        return first_samples(inputs, count)


@final
class Classification(_SingleLabel):
    """One label for each sample, whatever the samples are: vectors, texts, dicts of tensors, sequences."""

    kind: Literal["classification"] = "classification"


@final
class ImageClassification(_SingleLabel):
    """One label for each image, (batch, channels, height, width) in [0, 1]."""

    kind: Literal["image_classification"] = "image_classification"


@final
class TextClassification(_SingleLabel):
    """One label for each text: what a loader yields as their bytes, or tokens as ``input_ids`` and ``attention_mask``.

    Each model makes its own tokens of a text (see :class:`~understudy.tokenizing.TextTokenization`), so that a student
    may have another tokenizer than its teacher.
    """

    kind: Literal["text_classification"] = "text_classification"


def scores_of_samples(model: nn.Module, batch: Batch) -> Knowledge:
    """What a model says of each sample: logits (batch, classes), and which tokens of a text are real.

    Args:
        model: of texts it is given its own tokens.
        batch: the samples.

    Raises:
        InputError: when the output is not (batch, classes).
    """
    inputs, tokenization = network_inputs(model, batch.inputs), tokenization_of(model)
    logits = logits_of(call_network(model, inputs))
    if logits.ndim != 2:
        raise InputError(f"the model returned logits of shape {tuple(logits.shape)}, expected (batch, classes)")
    tokens = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
    return Knowledge(
        logits=logits,
        mask=batch.mask,
        tokens=tokens.bool() if isinstance(tokens, Tensor) and tokens.ndim == 2 else None,
        tokenization=None if tokenization is None else tokenization.identity,
    )


def _whole_numbers(targets: Any) -> Tensor:
    if not isinstance(targets, Tensor):
        raise InputError(f"targets are a {type(targets).__name__}; expected a tensor (int64, shape (batch,))")
    if targets.ndim != 1 or targets.is_floating_point() or targets.is_complex():
        raise InputError(
            f"targets have shape {tuple(targets.shape)} and type {targets.dtype}; expected one whole number "
            "per sample, the index of its class (int64, shape (batch,))"
        )
    return targets.long()


def inputs_and_targets(raw: Any) -> tuple[Any, Any]:
    """What a loader yields for one batch, taken apart; targets are None where there are none.

    Args:
        raw: (inputs, targets), (inputs,), an input tensor, or a mapping with ``labels`` or ``label``.

    Raises:
        InputError: for anything else.
    """
    if isinstance(raw, Tensor):
        return raw, None
    if isinstance(raw, Mapping):
        inputs = {str(name): value for name, value in raw.items() if name not in ("labels", "label")}
        return inputs, raw.get("labels", raw.get("label"))
    if isinstance(raw, tuple | list) and len(raw) in (1, 2):
        return raw[0], raw[1] if len(raw) == 2 else None
    shown = f"a {type(raw).__name__} of {len(raw)}" if isinstance(raw, tuple | list) else type(raw).__name__
    raise InputError(f"a batch of this task is (inputs, targets) or a dict with 'labels', got {shown}")


def first_samples(inputs: Any, count: int) -> Any:
    """The first ``count`` samples of a batch's inputs: of a tensor, or of each of several."""
    if isinstance(inputs, Tensor):
        return inputs[:count]
    if isinstance(inputs, Mapping):
        return {name: value[:count] for name, value in inputs.items()}
    return tuple(value[:count] for value in inputs)


def call_network(model: nn.Module, inputs: Any) -> Any:
    """Call a model with a tensor, a tuple of positional or a mapping of keyword arguments."""
    if isinstance(inputs, Tensor):
        return model(inputs)
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


def logits_of(output: Any) -> Tensor:
    """The logits in what a model returned: a tensor, its ``.logits``, or the first of a tuple.

    Raises:
        InputError: for anything else.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping) and "logits" in output:
        return output["logits"]
    if isinstance(output, tuple | list) and output and isinstance(output[0], torch.Tensor):
        return output[0]
    raise InputError(
        f"the model returned {type(output).__name__}; expected a tensor of logits, an output with `.logits`, "
        "or a tuple whose first item is the logits"
    )
