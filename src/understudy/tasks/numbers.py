"""Numbers of each sample: how good a text is, what a house costs, where a joint is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError
from understudy.functional.association import pearson_correlation, spearman_correlation
from understudy.knowledge import Answers, Knowledge
from understudy.methods.squared_error import SquaredError
from understudy.objective import Method
from understudy.tasks.classification import Classification, inputs_and_targets
from understudy.tasks.task import Task

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

_ERRORS = ("rmse", "mse", "mae")
_CALLING = Classification()


class _Numbers(Task):
    answers: ClassVar[Answers] = "numbers"
    metric: Literal["rmse", "mse", "mae", "pearson", "spearman", "r2"] = "rmse"
    """What selects and what reports begin with: the root of the mean squared error, or without the root; the mean
    absolute error; the correlation of the numbers (Pearson) or of their ranks (Spearman); or how much of the variance
    is explained, R²."""

    @property
    def lower_is_better(self) -> bool:
        """Of errors."""
        return self.metric in _ERRORS

    def batch(self, raw: Any) -> Batch:
        """Accept (inputs, targets), (inputs,), an input tensor, or a mapping with ``labels`` or ``label``.

        Targets are numbers, (batch,) or (batch, numbers), NaN where nobody knows them; a sample of which one number
        is missing has none.

        Raises:
            InputError: for anything else.
        """
        if isinstance(raw, Batch):
            return raw
        inputs, targets = inputs_and_targets(raw)
        return Batch(inputs=inputs, targets=None if targets is None else _numbers(targets))

    def observe(self, model: nn.Module, batch: Batch) -> Knowledge:
        """Call the model with the batch's inputs; the numbers are its output, its ``.logits``, or the first of a tuple.

        Of texts a model is given its own tokens.

        Raises:
            InputError: when the output is not (batch, numbers), or has not as many numbers as the targets.
        """
        found, targets = _CALLING.observe(model, batch), batch.targets
        if targets is not None and targets.is_floating_point() and targets.shape[1:] != found.logits.shape[1:]:
            raise InputError(
                f"the model answers {found.logits.shape[-1]} numbers for each sample, and the targets are of shape "
                f"{tuple(targets.shape)}; give the model as many outputs as there are numbers"
            )
        return found

    @property
    def supervised(self) -> Method:
        """The mean squared error."""
        return SquaredError()

    def metrics(self, classes: int) -> MetricCollection:  # noqa: ARG002 - any number of numbers
        """Errors, correlations and R², of several numbers their means."""
        from understudy.tasks.kept import collection

        return collection(
            {
                "rmse": lambda answers, targets: (answers - targets).double().square().mean().sqrt(),
                "mse": lambda answers, targets: (answers - targets).double().square().mean(),
                "mae": lambda answers, targets: (answers - targets).double().abs().mean(),
                "pearson": lambda answers, targets: pearson_correlation(answers.T, targets.T).mean(),
                "spearman": lambda answers, targets: spearman_correlation(answers.T, targets.T).mean(),
                "r2": explained_variance,
            }
        )

    def example(self, inputs: Any, count: int) -> Any:
        """The first ``count`` samples."""
        return _CALLING.example(inputs, count)


@final
class NumberRegression(_Numbers):
    """One number or several for each sample, whatever the samples are: vectors, images, texts, dicts of tensors."""

    kind: Literal["regression"] = "regression"


@final
class TextRegression(_Numbers):
    """One number or several for each text: what a loader yields as their bytes, or tokens as ``input_ids``.

    Each model makes its own tokens of a text, as for :class:`TextClassification`.
    """

    kind: Literal["text_regression"] = "text_regression"


def explained_variance(answers: Tensor, targets: Tensor) -> Tensor:
    r"""R², the mean over the numbers: 1 at best, 0 for whoever always answers the mean, below that for worse.

    .. math:: 1 - \sum_i (r_i - y_i)^2 \Big/ \sum_i (y_i - \bar y)^2

    Args:
        answers: (positions, numbers).
        targets: the same shape; a number that never changes counts as 0.

    Example:
        >>> explained_variance(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[1.0], [2.0], [3.0]]))
        tensor(0.5000, dtype=torch.float64)
    """
    targets = targets.double()
    missed = (answers.double() - targets).square().sum(0)
    there = (targets - targets.mean(0)).square().sum(0)
    return (1.0 - missed / there.where(there > 0, 1.0)).where(there > 0, 0.0).mean()


def _numbers(targets: Any) -> Tensor:
    if not isinstance(targets, Tensor):
        raise InputError(f"targets are a {type(targets).__name__}; expected a tensor of numbers (batch, numbers)")
    if targets.ndim not in (1, 2) or targets.is_complex() or targets.dtype == torch.bool:
        raise InputError(
            f"targets have shape {tuple(targets.shape)} and type {targets.dtype}; expected numbers, (batch,) or "
            "(batch, numbers), NaN where nobody knows them"
        )
    numbers = targets if targets.is_floating_point() else targets.float()
    return numbers.unsqueeze(-1) if numbers.ndim == 1 else numbers
