"""Recurrent networks and transformers become small, and where there are kernels integer, without calibration."""

from collections import Counter

import onnx
import onnxruntime as ort
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from understudy.errors import InputError
from understudy.export.dynamic import DynamicInt8, dynamic_int8
from understudy.foreign import quiet
from understudy.runtimes.onnxruntime import exact_session


class Reader(nn.Module):
    """Reads a picture row by row."""

    def __init__(self, kind, *, bidirectional=False):
        super().__init__()
        self.layers = getattr(nn, kind)(8, 96, num_layers=2, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(192 if bidirectional else 96, 10)

    def forward(self, rows):
        return self.head(self.layers(rows)[0].mean(1))


class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 64)
        self.query, self.key, self.value = (nn.Linear(64, 64) for _ in range(3))
        self.head = nn.Linear(64, 10)

    def forward(self, rows):
        x = self.embed(rows)
        scores = self.query(x) @ self.key(x).transpose(1, 2) / 8
        return self.head((x + scores.softmax(-1) @ self.value(x)).mean(1))


def rows_and_labels():
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32) / 16, torch.tensor(data.target)


def trained(network, *, steps):
    torch.manual_seed(0)
    rows, labels = rows_and_labels()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    for _ in range(steps):
        chosen = torch.randint(0, 1400, (64,))
        loss = nn.functional.cross_entropy(network(rows[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def written(network, path, x=None):
    with quiet():
        torch.onnx.export(
            network,
            (torch.rand(2, 8, 8) if x is None else x,),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["rows"],
            output_names=["logits"],
            dynamic_axes={"rows": {0: "batch", 1: "steps"}, "logits": {0: "batch"}},
        )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"understudy": "the card"})
    onnx.save(model, path)
    return path


def opened(path, folder):
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "optimised.onnx"), 3
    session = exact_session(path, options)
    return session, Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


def answers(session, rows):
    return torch.from_numpy(session.run(None, {"rows": rows.numpy()})[0])


EXPECTED = {
    "LSTM": (DynamicInt8({"LSTM": 2, "MatMul": 1}, {}), "DynamicQuantizeLSTM"),
    "GRU": (DynamicInt8({"MatMul": 1}, {"GRU": 2}), "GRU"),
    "RNN": (DynamicInt8({"MatMul": 1}, {"RNN": 2}), "RNN"),
}


@pytest.mark.e2e
@pytest.mark.parametrize(("kind", "steps"), [("LSTM", 150), ("GRU", 150)])
def test_a_recurrent_classifier_becomes_a_third_and_predicts_the_same(tmp_path, kind, steps):
    network = trained(Reader(kind), steps=steps)
    source = written(network, tmp_path / "float.onnx")
    found = dynamic_int8(source, tmp_path / "int8.onnx")
    session, operators = opened(tmp_path / "int8.onnx", tmp_path)
    rows, labels = rows_and_labels()
    with torch.no_grad():
        expected = network(rows[1400:])
    received = answers(session, rows[1400:])
    assert (expected.argmax(1) == labels[1400:]).float().mean() > 0.8
    assert (expected.argmax(1) != received.argmax(1)).float().mean() <= 0.01
    assert (expected - received).abs().max() < 0.15 * expected.std()
    assert found == EXPECTED[kind][0]
    assert operators[EXPECTED[kind][1]] == 2
    assert (tmp_path / "int8.onnx").stat().st_size < 0.35 * source.stat().st_size
    assert session.get_modelmeta().custom_metadata_map["understudy"] == "the card"


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_what_is_executed_with_integers_and_what_is_only_stored(tmp_path, kind, bidirectional):
    torch.manual_seed(0)
    network = Reader(kind, bidirectional=bidirectional).eval()
    source = written(network, tmp_path / "float.onnx")
    assert dynamic_int8(source, tmp_path / "int8.onnx") == EXPECTED[kind][0]
    session, operators = opened(tmp_path / "int8.onnx", tmp_path)
    assert operators[EXPECTED[kind][1]] == 2
    assert operators["Cast"] == 0  # stored weights become floats once, when the file is loaded
    rows = torch.rand(5, 13, 8)
    with torch.no_grad():
        expected = network(rows)
    assert (expected - answers(session, rows)).abs().max() < 0.05 * expected.std()
    assert (tmp_path / "int8.onnx").stat().st_size < 0.45 * source.stat().st_size


def test_rows_of_a_stored_weight_have_their_own_scales(tmp_path):
    network = Reader("GRU").eval()
    with torch.no_grad():
        network.layers.weight_hh_l0[7] *= 100
    dynamic_int8(written(network, tmp_path / "float.onnx"), tmp_path / "int8.onnx")
    held = {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    scales = [values for values in held.values() if values.shape == (1, 288, 1)]
    assert len(scales) == 4  # two layers, of their inputs and of their states
    assert all(len(set(each.ravel().tolist())) > 250 for each in scales)
    assert all(abs(int(each.min())) > 100 for each in held.values() if each.dtype == "int8" and each.ndim == 3)


def test_the_linear_layers_of_a_transformer_are_executed_in_integers(tmp_path):
    torch.manual_seed(0)
    network = Attentive().eval()
    rows = torch.rand(5, 8, 8)
    found = dynamic_int8(written(network, tmp_path / "float.onnx"), tmp_path / "int8.onnx", reduce_range=True)
    session, operators = opened(tmp_path / "int8.onnx", tmp_path)
    with torch.no_grad():
        expected = network(rows)
    assert (expected - answers(session, rows)).abs().max() < 0.1 * expected.std()
    assert found == DynamicInt8({"MatMul": 5}, {})
    assert sum(operators[name] for name in ("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulInteger")) == 5
    weights = [onnx.numpy_helper.to_array(each) for each in onnx.load(tmp_path / "int8.onnx").graph.initializer]
    assert max(abs(int(each.min())) for each in weights if each.dtype == "int8") <= 64


def test_a_file_without_such_layers_is_refused(tmp_path):
    source = written(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()).eval(), tmp_path / "float.onnx", torch.rand(2, 1, 8, 8)
    )
    with pytest.raises(InputError, match=r"has no linear, LSTM, GRU .*convolutions become int8 by calibration"):
        dynamic_int8(source, tmp_path / "int8.onnx")
    assert not (tmp_path / "int8.onnx").exists()


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(InputError, match=r"broken\.onnx cannot be quantized by ONNX Runtime"):
        dynamic_int8(tmp_path / "broken.onnx", tmp_path / "int8.onnx")
