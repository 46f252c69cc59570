"""Distillation of the distances between the scores of candidates."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from torch import Tensor

from understudy.batch import Batch
from understudy.functional.rankings import margin_mse_loss
from understudy.knowledge import Answers, Knowledge
from understudy.objective import Method


@final
class MarginMse(Method):
    r"""By how much the student scores one candidate above another regresses the teacher's margin.

    .. math:: \frac{1}{N K (K - 1)} \sum_i \sum_{j \ne k} \big((s_{ij} - s_{ik}) - (t_{ij} - t_{ik})\big)^2

    The last dimension of the logits is the list of candidates of a query, or the classes. The paper has one relevant
    and one irrelevant passage for each query, K = 2; here all ordered pairs of a list count, and no label is read.
    Over all pairs it is by algebra 2 K / (K - 1) times ``LogitMse(centred=True)``, so that for one K the two differ
    in their weight only. For embeddings, whose margins are between cosines, see ``similarity_margins``.
    Scale: the mean over pairs and positions, in the squared unit of the scores; 0 at equality, also up to a constant
    per position, and for a single candidate. The gradient goes to the student only.

    Example:
        >>> MarginMse()
        MarginMse(kind='margin_mse', weight=1.0, name=None)
    """

    paper: ClassVar[str] = (
        "Hofstätter, Althammer, Schröder, Sertkan, Hanbury: Improving Efficient Neural Ranking Models with "
        "Cross-Architecture Knowledge Distillation, 2020 (arXiv:2010.02666)"
    )
    answers: ClassVar[tuple[Answers, ...]] = ("classes", "numbers")

    kind: Literal["margin_mse"] = "margin_mse"

    def loss(self, student: Knowledge, teacher: Knowledge, batch: Batch) -> Tensor:
        """Mean squared difference of margins over the positions that count."""
        return margin_mse_loss(student.logits, teacher.logits, mask=student.mask, total=batch.valid_total)
