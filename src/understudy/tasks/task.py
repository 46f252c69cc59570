"""The seam between the core and a kind of problem."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from understudy.batch import Batch, known
from understudy.knowledge import Answers, Knowledge, LayerPairs
from understudy.objective import Method
from understudy.spec import Spec

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection


_FITTING: dict[Answers, str] = {
    "classes": "soft_targets or cross_entropy",
    "numbers": "regression, or squared_error for true numbers",
    "vectors": "cosine_features, embedding_similarity or regression",
}


class Task(Spec):
    """How samples become a batch, how a model is called, what its logits are, and how quality is measured.

    Everything above (distiller, engine, methods) sees only :class:`Batch` and :class:`Knowledge`.
    """

    counted: ClassVar[str] = "samples"
    """What the positions are that metrics are over: samples, or what each sample has several of."""
    answers: ClassVar[Answers] = "classes"
    """What a network of this task answers."""
    labelled: ClassVar[bool] = True
    """Whether samples have true answers. Where they have none, a student is measured by its teacher's answers, and
    there is nothing to train a control on."""

    kind: str
    metric: str
    """Name of the headline metric in :meth:`metrics`."""

    @property
    def lower_is_better(self) -> bool:
        """Whether a smaller value of the headline metric is the better one."""
        return False

    def of_classes(self, count: int) -> Task:  # noqa: ARG002 - what overriding tasks need
        """The same task for data of so many classes."""
        return self

    def choices(self, classes: Sequence[str]) -> tuple[str, ...]:
        """What a position can be answered with, in the order of the logits: the classes, where nothing else is said.

        Args:
            classes: names of the data's classes.
        """
        return tuple(classes)

    def refuses(self, term: Method) -> str | None:
        """Why a term of an objective says nothing here, and what to take instead; None where it does.

        Args:
            term: any.
        """
        if self.answers in term.answers:
            return None
        fitting = _FITTING[self.answers]
        return f"{term.label} is not about {self.answers}, which task {self.kind!r} answers; use {fitting}"

    @abstractmethod
    def batch(self, raw: Any) -> Batch:
        """What a loader yields, as a batch. A :class:`Batch` passes through unchanged.

        Raises:
            InputError: for something that the task cannot read.
        """

    @abstractmethod
    def observe(self, model: nn.Module, batch: Batch) -> Knowledge:
        """Call the model; its logits with the class dimension last, and the mask of valid positions.

        A task of padded tokens with one label per sample also says which ``tokens`` are real, for methods on layers.

        Raises:
            InputError: when what the model returns holds no logits of the expected shape.
        """

    @property
    def layer_pairs(self) -> LayerPairs | None:
        """What ``auto`` stands for in methods on layers; None: it is found in the two networks."""
        return None

    @property
    @abstractmethod
    def supervised(self) -> Method:
        """The loss that one would train on without any teacher.

        Raises:
            InputError: for a task without true answers.
        """

    @abstractmethod
    def metrics(self, classes: int) -> MetricCollection:
        """Metrics of quality for ``update(logits, targets)`` over valid, labelled positions, flattened.

        For a task without true answers the targets are the teacher's answers, float (positions, width).

        Args:
            classes: number of classes, or of numbers, the last dimension of the logits.
        """

    def count(self, metrics: Metric | MetricCollection, logits: Tensor, targets: Tensor) -> None:
        """Let metrics count some positions.

        Args:
            metrics: some of :meth:`metrics`, or one of them.
            logits: (positions, classes), all positions of some samples in their order.
            targets: (positions,), ``IGNORE_INDEX`` where there is no label.
        """
        labelled = known(targets)
        if labelled.any():
            metrics.update(logits[labelled], targets[labelled])

    def probabilities(self, logits: Tensor) -> Tensor:
        """How likely each class of the data is for each sample, (batch, classes).

        Args:
            logits: of :meth:`observe`.
        """
        return logits.softmax(-1)

    @abstractmethod
    def example(self, inputs: Any, count: int) -> Any:
        """The first ``count`` samples of a batch's inputs, for measuring and export."""

    def flat(self, knowledge: Knowledge, batch: Batch) -> tuple[Tensor, Tensor]:
        """The labelled positions of a batch in a row: logits (positions, classes) and targets (positions, ...)."""
        labelled = batch.labelled
        assert batch.targets is not None  # `labelled` has raised otherwise
        return knowledge.logits[labelled], batch.targets[labelled]
