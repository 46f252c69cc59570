"""A vector of each text, whose cosines with others say how near their meanings are."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

from torch import nn

from understudy.batch import Batch
from understudy.errors import InputError
from understudy.functional.embeddings import nearest_agreement, similarity_agreement
from understudy.knowledge import OUTPUT, Answers, Knowledge, LayerPairs
from understudy.objective import Method
from understudy.tasks.classification import Classification, inputs_and_targets
from understudy.tasks.task import Task

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

_CALLING = Classification()
_ITSELF = ((OUTPUT, OUTPUT),)


@final
class SentenceEmbedding(Task):
    """A vector for each text. Nobody knows the true one: a student learns its teacher's, and is measured by them.

    The widths of both may differ. Methods on layers are about the embeddings themselves unless they name layers:
    ``hint`` and ``cosine_features`` train a projection, which is not part of the student, where the widths differ;
    ``embedding_similarity``, ``similarity_margins`` and other relations do not need one.
    """

    answers: ClassVar[Answers] = "vectors"
    labelled: ClassVar[bool] = False
    kind: Literal["sentence_embedding"] = "sentence_embedding"
    metric: Literal["similarity", "nearest", "nearest10"] = "similarity"
    """What selects and what reports begin with: the rank correlation of the cosines between texts with the teacher's;
    or how often the text that is nearest for the teacher is the nearest, or among the ten nearest, for the student."""

    @property
    def layer_pairs(self) -> LayerPairs | None:
        """The embeddings themselves."""
        return LayerPairs(stages=_ITSELF, penultimate=_ITSELF)

    def batch(self, raw: Any) -> Batch:
        """Accept (inputs, labels), (inputs,), an input tensor, or a mapping; labels are left out.

        Raises:
            InputError: for anything else.
        """
        return raw if isinstance(raw, Batch) else Batch(inputs=inputs_and_targets(raw)[0])

    def observe(self, model: nn.Module, batch: Batch) -> Knowledge:
        """Call the model with the batch's inputs; the vectors are its output, its ``.logits``, or the first of a tuple.

        Of texts a model is given its own tokens.

        Raises:
            InputError: when the output is not (batch, width): of an encoder that gives the states of tokens, say how
                they become one vector (:func:`~understudy.sources.embedding.embed`).
        """
        try:
            return _CALLING.observe(model, batch)
        except InputError as error:
            raise InputError(
                f"{error}, here one vector for each text. An encoder that gives the states of its tokens becomes one "
                "of texts by understudy.sources.embedding.embed(model)"
            ) from error

    @property
    def supervised(self) -> Method:
        """There is none.

        Raises:
            InputError: always.
        """
        raise InputError(
            "task 'sentence_embedding' has no true answers to train on without a teacher; give the stage a teacher and "
            "terms that ask it, such as cosine_features or embedding_similarity, or load a trained model"
        )

    def metrics(self, classes: int) -> MetricCollection:  # noqa: ARG002 - any width
        """How far the student says of two texts what the teacher says of them."""
        from understudy.tasks.kept import collection

        return collection(
            {
                "similarity": similarity_agreement,
                "nearest": partial(nearest_agreement, among=1),
                "nearest10": partial(nearest_agreement, among=10),
            }
        )

    def example(self, inputs: Any, count: int) -> Any:
        """The first ``count`` samples."""
        return _CALLING.example(inputs, count)
