"""Networks of several labels as files: one number for each label comes out."""

import json

import pytest
import torch
from torch import nn

from understudy import Batch, MultiLabelClassification
from understudy.export import save_for_transformers
from understudy.export.traced import traced
from understudy.sources import TransformersModel, build_model
from understudy.tokenizing import Bytes, bytes_of

TASK = MultiLabelClassification(labels=3)


class Telling(nn.Module):
    """Gives more than its logits, and something else first."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, inputs):
        features = self.body(inputs)
        return {"again": features.flip(1)[:, :3], "features": features, "logits": self.head(features)}


def test_of_several_answers_the_logits_are_written() -> None:
    model, inputs = Telling().eval(), torch.randn(4, 5)
    network = traced(model, inputs, TASK)
    with torch.no_grad():
        torch.testing.assert_close(network.flat(inputs), model(inputs)["logits"])


@pytest.mark.e2e
def test_transformers_reads_what_kind_of_labels_they_are(tmp_path) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    texts = bytes_of(["a film", "good"])
    spec = TransformersModel(config="bert", arguments=sizes, preprocess=Bytes(max_length=16))
    model = build_model(spec, classes=3, inputs=texts).eval()
    save_for_transformers(model, tmp_path / "made", classes=("a", "b", "c"), example=texts, task=TASK)
    config = json.loads((tmp_path / "made" / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert config["id2label"] == {"0": "a", "1": "b", "2": "c"}
    assert TASK.observe(model, Batch(inputs=texts)).logits.shape == (2, 3, 2)
