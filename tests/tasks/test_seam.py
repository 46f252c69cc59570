"""The seam holds: a causal language model, defined right here, distills with the shipped methods unchanged."""

from typing import Any, Literal

import pytest
import torch
from torch import nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from understudy import Batch, CrossEntropy, Distiller, Hint, Knowledge, SoftTargets, Task

VOCABULARY = 11


class CausalLanguageModel(Task):
    metric: str = "accuracy"
    kind: Literal["causal_language_model"] = "causal_language_model"

    def batch(self, raw: Any) -> Batch:
        if isinstance(raw, Batch):
            return raw
        mask = raw["attention_mask"][:, 1:].bool()
        return Batch(inputs=dict(raw), targets=raw["input_ids"][:, 1:].masked_fill(~mask, -100), mask=mask)

    def observe(self, model: nn.Module, batch: Batch) -> Knowledge:
        return Knowledge(logits=model(**batch.inputs)[:, :-1], mask=batch.mask)

    @property
    def supervised(self) -> CrossEntropy:
        return CrossEntropy()

    def metrics(self, classes: int) -> MetricCollection:
        return MetricCollection({"accuracy": MulticlassAccuracy(classes)})

    def example(self, inputs: Any, count: int) -> Any:
        return {name: value[:count] for name, value in inputs.items()}


class TinyModel(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width)
        self.rnn = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(self.embed(input_ids))[0])


def texts() -> dict[str, torch.Tensor]:
    mask = torch.ones(4, 7, dtype=torch.long)
    mask[1, 4:] = 0
    mask[3, 1:] = 0
    return {"input_ids": torch.randint(VOCABULARY, (4, 7)), "attention_mask": mask}


def test_a_language_model_learns_from_another() -> None:
    objective = SoftTargets(temperature=2.0) + Hint(student_layer="rnn:0", teacher_layer="rnn:0")
    raw = texts()
    distiller = Distiller(TinyModel(8), TinyModel(16), objective, example=raw, task=CausalLanguageModel())
    optimizer = torch.optim.Adam(distiller.parameters(), lr=3e-2)
    steps = []
    for _ in range(60):
        steps.append(distiller(raw))
        optimizer.zero_grad()
        steps[-1].loss.backward()
        optimizer.step()
    for term in ("soft_targets", "hint"):
        assert steps[-1].terms[term] < 0.2 * steps[0].terms[term]


@pytest.mark.parametrize("method", [CrossEntropy(), SoftTargets(temperature=3.0)])
def test_padding_counts_for_nothing(method: Any) -> None:
    raw, student, teacher = texts(), TinyModel(8), TinyModel(16)
    task = CausalLanguageModel()
    padded = Distiller(student, teacher, method, example=raw, task=task)(raw)
    alone = []
    for row, length in enumerate(raw["attention_mask"].sum(1).tolist()):
        if length > 1:
            cut = {name: value[row : row + 1, :length] for name, value in raw.items()}
            alone.append((length - 1, Distiller(student, teacher, method, example=cut, task=task)(cut).loss))
    expected = sum(count * loss for count, loss in alone) / sum(count for count, _ in alone)
    torch.testing.assert_close(padded.loss, expected)


def test_a_batch_of_padding_alone_gives_a_connected_zero() -> None:
    raw, student = texts(), TinyModel(8)
    raw["attention_mask"][:, 1:] = 0
    objective = CrossEntropy() + SoftTargets()
    step = Distiller(student, TinyModel(16), objective, example=raw, task=CausalLanguageModel())(raw)
    step.loss.backward()
    assert step.loss.item() == 0.0
    assert all(p.grad is not None and not p.grad.any() for p in student.parameters())
