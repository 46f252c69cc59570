"""A task for samples of tokens with one label each, tiny encoders, and right-padded batches."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from transformers import BertConfig, BertForSequenceClassification

from understudy import Batch, CrossEntropy, Distiller, Knowledge, Method, Task

VOCABULARY, CLASSES = 13, 3
LENGTHS = 5, 2, 4


class Texts(Task):
    metric: ClassVar[str] = "accuracy"
    kind: Literal["texts"] = "texts"

    def batch(self, raw: Any) -> Batch:
        if isinstance(raw, Batch):
            return raw
        return Batch(inputs={name: value for name, value in raw.items() if name != "labels"}, targets=raw["labels"])

    def observe(self, model: nn.Module, batch: Batch) -> Knowledge:
        return Knowledge(
            logits=model(**batch.inputs).logits, mask=batch.mask, tokens=batch.inputs["attention_mask"].bool()
        )

    @property
    def supervised(self) -> CrossEntropy:
        return CrossEntropy()

    def metrics(self, classes: int) -> MetricCollection:
        return MetricCollection({"accuracy": MulticlassAccuracy(classes)})

    def example(self, inputs: Any, count: int) -> Any:
        return {name: value[:count] for name, value in inputs.items()}


def encoder(*, width: int, layers: int, heads: int = 2, attention: str = "eager") -> nn.Module:
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * width,
        max_position_embeddings=16,
        num_labels=CLASSES,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation=attention,
    )
    return BertForSequenceClassification(config).double()


def padded(lengths: tuple[int, ...] = LENGTHS, *, to: int | None = None) -> dict[str, Tensor]:
    """Samples of these lengths, with random tokens in their padding too."""
    longest = to or max(lengths)
    real = torch.arange(longest) < torch.tensor(lengths)[:, None]
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(VOCABULARY, (len(lengths), 16), generator=generator)[:, :longest]
    return {"input_ids": ids, "attention_mask": real.long(), "labels": torch.arange(len(lengths)) % CLASSES}


def alone(batch: dict[str, Tensor], sample: int) -> dict[str, Tensor]:
    """One sample of a batch, without its padding."""
    length = int(batch["attention_mask"][sample].sum())
    return {
        name: value[sample : sample + 1, :length] if value.ndim == 2 else value[sample : sample + 1]
        for name, value in batch.items()
    }


def term_of(student: nn.Module, teacher: nn.Module, method: Method, batch: dict[str, Tensor]) -> Tensor:
    """The unweighted loss of a batch; adapters start alike."""
    torch.manual_seed(0)
    return Distiller(student, teacher, method, example=batch, task=Texts())(batch).loss
