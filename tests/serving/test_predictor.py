"""A model from disk answers samples, alone and together, whatever runs it."""

import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from understudy.errors import InputError
from understudy.serving import Predictor, SampleForm, open_predictor
from understudy.serving.expected import Expected
from understudy.sources import BuiltinModel, Preprocess, build_model, save_artifact

CLASSES = ("cat", "dog", "cow", "hen")
IMAGES = torch.rand(3, 1, 8, 8)
MLP = BuiltinModel(name="mlp", arguments={"hidden": [6]}, preprocess=Preprocess(mean=(0.5,), std=(0.25,)))


class Tokens(nn.Module):
    """The mean of embeddings, without padding."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 4)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask[..., None].float()
        return (self.table(input_ids) * mask).sum(1) / mask.sum(1)


def make_tokens() -> nn.Module:
    return Tokens()


@pytest.fixture
def saved(tmp_path) -> Path:
    model = build_model(MLP, classes=4, inputs=IMAGES)
    return save_artifact(tmp_path / "saved", model, spec=MLP, classes=CLASSES, inputs=IMAGES)


def test_a_saved_model_answers_with_the_softmax_of_its_outputs(saved):
    predictor = open_predictor(saved)
    found = predictor.predict(list(IMAGES), top=9)
    with torch.no_grad():
        expected = predictor.model(IMAGES).softmax(1)
    for prediction, row in zip(found, expected, strict=True):
        assert dict(prediction.top) == pytest.approx(dict(zip(CLASSES, row.tolist(), strict=True)), abs=1e-6)
        assert prediction.label == CLASSES[int(row.argmax())]
        assert [share for _, share in prediction.top] == sorted((share for _, share in prediction.top), reverse=True)
    assert found[0].as_json()["class"] == found[0].label
    assert [one["class"] for one in found[0].as_json()["top"]] == [label for label, _ in found[0].top]
    assert predictor.predict([]) == []


def test_together_and_alone_are_the_same_and_so_are_threads(saved):
    predictor = open_predictor(saved / "model.json")
    samples = list(torch.rand(40, 1, 8, 8))
    together = predictor.predict(samples, top=4)
    alone = [None] * len(samples)

    def answer(first: int) -> None:
        for place in range(first, len(samples), 4):
            (alone[place],) = predictor.predict([samples[place]], top=4)

    threads = [threading.Thread(target=answer, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(together, alone, strict=True):
        assert one.label == other.label
        assert dict(one.top) == pytest.approx(dict(other.top), abs=1e-6)


def test_sequences_of_several_lengths_keep_their_order(tmp_path):
    inputs = {name: torch.ones(2, 7, dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    model = make_tokens()
    predictor = Predictor(model, SampleForm.of_record({name: _shape(7) for name in inputs}), classes=CLASSES)
    rows = [[3, 1], [2, 2, 9], [5, 1], [10]]
    samples = predictor.form.of_json([{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows])
    for row, prediction in zip(rows, predictor.predict(samples, top=4), strict=True):
        expected = model(torch.tensor([row]), torch.ones(1, len(row))).softmax(1)[0]
        assert dict(prediction.top) == pytest.approx(dict(zip(CLASSES, expected.tolist(), strict=True)), abs=1e-6)


def _shape(length: int):
    from understudy.sources.artifact_record import InputShape

    return InputShape(shape=(length,), dtype="int64")


def write_onnx(path: Path, weights: np.ndarray, batch: str | int) -> None:
    """Images (batch, 3, 2, 2) times (12, 3): what another tool may have exported."""
    node = onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [node("Flatten", ["x"], ["flat"]), node("MatMul", ["flat", "weights"], ["y"])],
        "linear",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [batch, 3, 2, 2])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [batch, 3])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), path)


def test_exported_files_answer_like_the_network_even_those_of_a_fixed_batch(tmp_path):
    weights = torch.rand(12, 3)
    samples = torch.rand(5, 3, 2, 2)
    expected = (samples.flatten(1) @ weights).softmax(1)
    for name, batch in (("any", "n"), ("two", 2)):
        write_onnx(tmp_path / f"{name}.onnx", weights.numpy(), batch)
        predictor = open_predictor(tmp_path / f"{name}.onnx")
        assert (predictor.name, predictor.classes) == (name, ("0", "1", "2"))
        for prediction, row in zip(predictor.predict(list(samples), top=3), expected, strict=True):
            assert dict(prediction.top) == pytest.approx({str(k): float(v) for k, v in enumerate(row)}, abs=1e-6)
    with pytest.raises(InputError, match=r"several exported files; name one of 'any.onnx', 'two.onnx'"):
        open_predictor(tmp_path)
    (tmp_path / "two.onnx").unlink()
    assert open_predictor(tmp_path).card()["runtime"] == "onnxruntime"
    with pytest.raises(InputError, match=r"cannot be run on a sample of 3 × 4 × 4"):
        open_predictor(tmp_path, size=(3, 4, 4))


def test_the_card_says_what_goes_in_and_out_and_no_path(saved):
    card = open_predictor(saved).card()
    assert card["model"] == "saved"
    assert card["classes"] == list(CLASSES)
    assert card["inputs"] == [{"name": "input", "kind": "image", "shape": [1, 8, 8], "dtype": "float32"}]
    assert card["normalisation"] == {"mean": [0.5], "std": [0.25]}
    assert str(saved) not in str(card)


class Broken(nn.Module):
    def forward(self, inputs):
        return torch.log(inputs.flatten(1)[:, :4] - 0.5)


def test_an_answer_that_is_not_finite_is_no_answer():
    predictor = Predictor(Broken(), SampleForm((Expected((1, 8, 8), torch.float32),)), classes=CLASSES)
    with pytest.raises(InputError, match="answer is not finite"):
        predictor.predict([torch.ones(1, 8, 8), torch.zeros(1, 8, 8)])


@pytest.mark.parametrize(
    ("classes", "shape", "words"),
    [
        (("a", "b"), (1, 8, 8), "'model' has 4 outputs, but 2 classes are named"),
        (CLASSES, (1, 9, 9), "'model' cannot be run on a sample of 1 × 9 × 9 float32"),
    ],
)
def test_models_that_cannot_be_run_are_refused_when_they_are_opened(classes, shape, words):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    with pytest.raises(InputError, match=words):
        Predictor(model, SampleForm((Expected(shape, torch.float32),)), classes=classes)


def test_what_is_no_model(tmp_path, saved):
    with pytest.raises(InputError, match=r"no file or folder .*saves'; nearest: 'saved'"):
        open_predictor(tmp_path / "saves")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"is not a saved model: expected model.json"):
        open_predictor(tmp_path / "empty")
    with pytest.raises(InputError, match="'openvino' executes exported files"):
        open_predictor(saved, runtime="openvino")
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(InputError):
        open_predictor(tmp_path / "model.bin")
