"""Predicting the next token: language models that read from left to right."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, final

import torch
from pydantic import Field
from torch import Tensor, nn

from understudy.batch import IGNORE_INDEX, Batch
from understudy.errors import InputError
from understudy.knowledge import Knowledge
from understudy.methods.cross_entropy import CrossEntropy
from understudy.objective import Method
from understudy.tasks.classification import call_network, logits_of
from understudy.tasks.task import Task
from understudy.tokenizing import DECODED

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

_TOKENS, _MASK, _LABELS = "input_ids", "attention_mask", "labels"


class LanguageModel(Task):
    """Saying which token comes: logits (batch, tokens, vocabulary), and a target for each token that is to be said."""

    counted: ClassVar[str] = "tokens"
    metric: Literal["bits", "perplexity", "accuracy"] = "bits"
    """What selects and what reports begin with: bits per token (of characters or bytes: bits per character or byte),
    the perplexity, or how often the likeliest token is the next one."""
    vocabulary: Annotated[int, Field(ge=1)] | None = None
    """How many tokens there really are, where models have room for more (sizes that were rounded up): logits beyond
    them are left out, so that two models with one tokenizer and different room can be compared. In a recipe it is
    known from `data.tokens`."""

    @property
    def lower_is_better(self) -> bool:
        """Of bits and perplexity."""
        return self.metric != "accuracy"

    def of_classes(self, count: int) -> LanguageModel:
        """The same with a vocabulary, unless it has one."""
        return self if self.vocabulary is not None else self.model_copy(update={"vocabulary": count})

    @abstractmethod
    def predicted(self, inputs: Any) -> Tensor:
        """Of a batch's inputs the tokens for each of which a model gives logits, int64 (batch, tokens)."""

    def observe(self, model: nn.Module, batch: Batch) -> Knowledge:
        """Call the model with the batch's inputs; logits are its output, its ``.logits``, or the first of a tuple.

        Raises:
            InputError: when the output is not (batch, tokens, vocabulary), or the vocabulary is smaller than said.
        """
        logits = logits_of(call_network(model, batch.inputs))
        expected = self.predicted(batch.inputs).shape
        if logits.ndim != 3 or logits.shape[:2] != expected:
            raise InputError(
                f"the model returned logits of shape {tuple(logits.shape)}, expected one row for each token: "
                f"{(*expected, 'vocabulary')}"
            )
        if self.vocabulary is not None and logits.shape[-1] < self.vocabulary:
            raise InputError(
                f"the model tells {logits.shape[-1]:,} tokens apart, fewer than the vocabulary of {self.vocabulary:,}; "
                "it belongs to another tokenizer"
            )
        decoded = isinstance(batch.inputs, Mapping) and DECODED in batch.inputs
        return Knowledge(logits=logits[..., : self.vocabulary], mask=batch.mask, decoded=decoded)

    @property
    def supervised(self) -> Method:
        """Cross-entropy of the next token."""
        return CrossEntropy()

    def metrics(self, classes: int) -> MetricCollection:
        """Accuracy of the likeliest token, and the bits and the perplexity per token; lower is better for both."""
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy

        from understudy.tasks.perplexity import Bits, Perplexity

        return MetricCollection(
            {"accuracy": MulticlassAccuracy(classes, average="micro"), "bits": Bits(), "perplexity": Perplexity()},
            compute_groups=False,
        )

    def example(self, inputs: Any, count: int) -> Any:
        """The first ``count`` samples."""
        if isinstance(inputs, Tensor):
            return inputs[:count]
        return {name: value[:count] for name, value in inputs.items()}


@final
class CausalLanguageModel(LanguageModel):
    r"""The next token after each: logits (batch, tokens, vocabulary), targets one place to the left of the tokens.

    Shifted is once, and here: the target of position t is token t + 1, the last position has none. All methods see
    logits, features and masks of the same positions. What counts are the positions whose next token is part of the
    answer: neither padding (``attention_mask`` 0) nor prompt (``labels`` of -100).

    Example:
        >>> task = CausalLanguageModel()
        >>> batch = task.batch({"input_ids": torch.tensor([[5, 6, 7]]), "labels": torch.tensor([[-100, 6, 7]])})
        >>> batch.targets.tolist(), batch.mask.tolist()
        ([[6, 7, -100]], [[True, True, False]])
    """

    kind: Literal["causal_language_model"] = "causal_language_model"

    def batch(self, raw: Any) -> Batch:
        """Accept a mapping with ``input_ids``, and if need be ``attention_mask`` and ``labels``; or the tokens alone.

        Labels are as Transformers has them: the tokens themselves, -100 where nothing is to be learnt, not shifted.
        They are not handed to the model, which would compute a loss of its own.

        Raises:
            InputError: for anything else, or tensors of other shapes than the tokens'.
        """
        if isinstance(raw, Batch):
            return raw
        inputs = _inputs(raw)
        labels, tokens = inputs.pop(_LABELS, None), inputs[_TOKENS]
        real = inputs[_MASK].bool() if _MASK in inputs else torch.ones_like(tokens, dtype=torch.bool)
        answered = (
            tokens.masked_fill(~real, IGNORE_INDEX) if labels is None else labels.masked_fill(~real, IGNORE_INDEX)
        )
        targets = torch.full_like(tokens, IGNORE_INDEX)
        targets[:, :-1] = answered[:, 1:]
        return Batch(inputs=inputs, targets=targets, mask=targets != IGNORE_INDEX)

    def predicted(self, inputs: Any) -> Tensor:
        """All tokens."""
        return inputs if isinstance(inputs, Tensor) else inputs[_TOKENS]


def _inputs(raw: Any) -> dict[str, Tensor]:
    if isinstance(raw, Tensor):
        raw = {_TOKENS: raw}
    if not isinstance(raw, Mapping) or not isinstance(raw.get(_TOKENS), Tensor):
        given = f"a mapping with {', '.join(map(repr, raw))}" if isinstance(raw, Mapping) else f"a {type(raw).__name__}"
        raise InputError(f"a batch of this task is a mapping with 'input_ids', or the tokens alone; got {given}")
    tokens = raw[_TOKENS]
    if tokens.ndim != 2 or tokens.is_floating_point():
        raise InputError(
            f"input_ids have shape {tuple(tokens.shape)} and type {tokens.dtype}; expected whole numbers (N, tokens)"
        )
    for name in (_MASK, _LABELS):
        if name in raw and raw[name].shape != tokens.shape:
            more = "; the labels of an encoder–decoder are read by task sequence_to_sequence" if name == _LABELS else ""
            raise InputError(
                f"{name} have shape {tuple(raw[name].shape)}, expected that of input_ids, {tuple(tokens.shape)}{more}"
            )
    return {str(name): value for name, value in raw.items()}
