"""Networks of every kind as files of every format, each proved in every runtime that takes it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from understudy.export import FORMATS, Exported, export
from understudy.runtimes import open_model, runtimes_for
from understudy.tasks import Classification

pytestmark = pytest.mark.e2e
TASK = Classification()
FLOAT = tuple(kind for kind in FORMATS if kind not in ("onnx_dynamic", "tensorrt"))  # which begin with onnx
QUICK = tuple(kind for kind in FLOAT if kind != "executorch")  # which takes longer than all others together


class Recurrent(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(6, 16, batch_first=True, bidirectional=kind == "LSTM")
        self.head = nn.Linear(32 if kind == "LSTM" else 16, 4)

    def forward(self, sequence: Tensor) -> Tensor:
        return self.head(self.rnn(sequence)[0][:, -1])


def mobile() -> nn.Module:
    return pytest.importorskip("torchvision").models.mobilenet_v2(num_classes=4, width_mult=0.35)


def vision_transformer() -> nn.Module:
    timm = pytest.importorskip("timm")
    return timm.create_model("vit_tiny_patch16_224", num_classes=4, img_size=32, patch_size=8, depth=2, embed_dim=96)


def text_classifier() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=4,
        max_position_embeddings=64,
    )
    return transformers.BertForSequenceClassification(config)


def made(model: nn.Module, example: Any, kind: str, folder: Path, **more: Any) -> Exported:
    return export(model, folder, format=kind, example=example, task=TASK, classes=tuple("abcd"), **more)


def check(model: nn.Module, file: Exported, inputs: Any) -> None:
    """Every runtime answers as the network does, for inputs of any size."""
    model.eval()
    for runtime in runtimes_for(file.path):
        deployed = open_model(file.path, runtime=runtime, threads=1)
        with torch.no_grad():
            expected, received = (TASK.observe(each, TASK.batch(inputs)).logits for each in (model, deployed))
        torch.testing.assert_close(received, expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


IMAGES = [(mobile, kind) for kind in FLOAT] + [(vision_transformer, kind) for kind in QUICK]
RECURRENT = [("GRU", kind) for kind in FLOAT] + [("LSTM", kind) for kind in QUICK]


@pytest.mark.parametrize(("build", "kind"), IMAGES)
def test_networks_on_images(tmp_path, build, kind) -> None:
    torch.manual_seed(0)
    model = build()
    for layer in model.modules():  # a fresh network's batch norms have seen nothing, and its logits are all alike
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        model.train()(torch.rand(8, 3, 32, 32))
    file = made(model, torch.rand(2, 3, 32, 32), kind, tmp_path)
    check(model, file, torch.rand(40, 3, 32, 32))  # more than ExecuTorch has room for
    assert [shape[0] for shape in file.proof.runtimes[0].shapes] == [32, 1, 3]


@pytest.mark.parametrize(("cell", "kind"), RECURRENT)
def test_recurrent_networks(tmp_path, cell, kind) -> None:
    torch.manual_seed(0)
    model = Recurrent(cell)
    file = made(model, torch.rand(2, 4, 6), kind, tmp_path)
    check(model, file, torch.rand(4, 4, 6))
    if kind in ("onnx", "openvino"):
        check(model, file, torch.rand(4, 12, 6))
        assert {cell, f"{cell}Sequence"} & set(file.proof.operators)
        assert (3, 2, 6) in file.proof.runtimes[0].shapes


@pytest.mark.parametrize("kind", [*FLOAT, "tensorrt"])
def test_a_text_classifier_takes_two_inputs_of_any_length(tmp_path, kind) -> None:
    torch.manual_seed(0)
    model = text_classifier()

    def inputs(count: int, tokens: int) -> dict[str, Tensor]:
        mask = torch.ones(count, tokens, dtype=torch.int64)
        mask[0, tokens // 2 :] = 0
        return {"input_ids": torch.randint(50, (count, tokens)), "attention_mask": mask}

    file = made(model, inputs(2, 10), kind, tmp_path)
    assert [port.name for port in file.card.inputs] == ["attention_mask", "input_ids"]
    if kind == "tensorrt":
        assert "--optShapes=attention_mask:8x10,input_ids:8x10" in file.trtexec
    else:
        assert file.trtexec is None
    assert (3, 5) in file.proof.runtimes[0].shapes
    for count, tokens in ((1, 7), (4, 10), (3, 24)):
        check(model, file, inputs(count, tokens))


def test_int8_files_compute_in_integers_and_are_smaller(tmp_path) -> None:
    pytest.importorskip("nncf")
    from understudy.compress.quantization import quantize

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 36, 4)
    ).eval()
    # Of noise alone, which looks all the same to a random network, many classes would be as likely as others.
    images = torch.rand(256, 3, 16, 16) * torch.rand(256, 3, 1, 1)
    small = quantize(model, [images], task=TASK, samples=64).network
    for kind, operator in (("onnx", "QuantizeLinear"), ("openvino", "FakeQuantize")):
        before = made(model, images[:2], kind, tmp_path / "float")
        file = made(small, images[:2], kind, tmp_path / "int8", samples=[images])
        assert (file.card.precision, file.proof.measure) == ("int8", "changed")
        assert file.proof.samples == 256
        assert operator in file.proof.operators
        assert file.size_bytes < 0.4 * before.size_bytes
