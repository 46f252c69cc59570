"""How well cosines of embeddings order pairs of texts, beside what people said of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError
from understudy.functional.association import spearman_correlation
from understudy.measure.quality import predict
from understudy.sources.forward import device_of
from understudy.tasks.embedding import SentenceEmbedding
from understudy.tokenizing import bytes_of

_TASK = SentenceEmbedding()


def similarity_to_scores(
    model: nn.Module, first: Sequence[str], second: Sequence[str], scores: Sequence[float], *, batch_size: int = 64
) -> float:
    """The rank correlation (Spearman) of the cosines of pairs of texts with scores that people gave them, as in STS-B.

    Args:
        model: gives a vector for each text, as ``build_model`` or ``load_artifact`` make it; its modes stay.
        first: a text of each pair.
        second: the other one.
        scores: of each pair, more for more similar ones.
        batch_size: texts at once.

    Returns:
        From -1 to 1.

    Raises:
        InputError: for lists of different lengths, or fewer than three pairs.

    References:
        Cer, Diab, Agirre, Lopez-Gazpio, Specia: SemEval-2017 Task 1: Semantic Textual Similarity, 2017
        (arXiv:1708.00055).
    """
    counts = {len(first), len(second), len(scores)}
    if len(counts) > 1 or min(counts) < 3:
        raise InputError(
            f"got {len(first)} and {len(second)} texts and {len(scores)} scores; expected as many of "
            "each, at least three"
        )
    vectors = [_embedded(model, texts, batch_size) for texts in (first, second)]
    cosines = torch.cosine_similarity(*vectors, dim=1)
    return float(spearman_correlation(cosines, torch.tensor(scores, dtype=torch.float64)))


def _embedded(model: nn.Module, texts: Sequence[str], size: int) -> Tensor:
    batches = [Batch(inputs=bytes_of(texts[begin : begin + size])) for begin in range(0, len(texts), size)]
    return predict(model, batches, _TASK, device_of(model)).logits
