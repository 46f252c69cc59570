"""A float ONNX file becomes int8 by calibration."""

import sys
from collections import Counter

import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from conformance.digits_network import trained_digits
from understudy.errors import InputError
from understudy.export.calibrated import onnxruntime_int8
from understudy.foreign import quiet
from understudy.runtimes.onnxruntime import exact_session


def written(network, x, path):
    with quiet():
        torch.onnx.export(
            network,
            (x,),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["pixels"],
            output_names=["logits"],
            dynamic_axes={"pixels": {0: "batch"}, "logits": {0: "batch"}},
        )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"understudy": "the card"})
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    return written(network, torch.rand(2, 1, 8, 8), tmp_path_factory.mktemp("float") / "tiny.onnx")


def operators(path, folder):
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(folder / "optimised.onnx"), 3
    session = exact_session(path, options)
    return session, Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


@pytest.mark.e2e
def test_predictions_stay_and_layers_are_executed_in_integers(tmp_path):
    digits = trained_digits()
    source = written(digits.network, digits.test[:2], tmp_path / "float.onnx")
    before = source.read_bytes()
    onnxruntime_int8(source, ([batch] for batch in digits.calibration()), tmp_path / "int8.onnx")
    session, found = operators(tmp_path / "int8.onnx", tmp_path)
    received = torch.from_numpy(session.run(None, {"pixels": digits.test.numpy()})[0])
    with torch.no_grad():
        expected = digits.network(digits.test)
    assert (received.argmax(1) != expected.argmax(1)).float().mean() <= 0.02
    assert (found["QLinearConv"], found["Conv"], found["FusedConv"]) == (7, 0, 0)
    assert source.read_bytes() == before
    assert session.get_modelmeta().custom_metadata_map["understudy"] == "the card"


def test_a_layer_before_a_silu_is_executed_in_integers(tiny, tmp_path):
    onnxruntime_int8(tiny, [[torch.rand(8, 1, 8, 8)]], tmp_path / "int8.onnx", reduce_range=True)
    _, found = operators(tmp_path / "int8.onnx", tmp_path)
    assert (found["QLinearConv"], found["Conv"]) == (1, 0)
    weights = [onnx.numpy_helper.to_array(each) for each in onnx.load(tmp_path / "int8.onnx").graph.initializer]
    assert max(abs(int(each.min())) for each in weights if each.dtype == "int8") <= 64


def test_data_of_another_shape_are_refused(tiny, tmp_path):
    batches = [[torch.rand(4, 1, 8, 8)], [torch.rand(4, 1, 8, 9)]]
    expected = r"calibration batch 1: the file takes 'pixels' \(any, 1, 8, 8\) float32; got \(4, 1, 8, 9\) float32"
    with pytest.raises(InputError, match=expected):
        onnxruntime_int8(tiny, batches, tmp_path / "int8.onnx")
    with pytest.raises(InputError, match=r"batch 0.* got \(4, 1, 8, 8\) float64"):
        onnxruntime_int8(tiny, [[torch.rand(4, 1, 8, 8).double()]], tmp_path / "int8.onnx")
    with pytest.raises(InputError, match=r"batch 0.* got nothing"):
        onnxruntime_int8(tiny, [[]], tmp_path / "int8.onnx")
    with pytest.raises(InputError, match="there are no batches to calibrate with"):
        onnxruntime_int8(tiny, [], tmp_path / "int8.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(InputError, match=r"broken\.onnx cannot be run by ONNX Runtime"):
        onnxruntime_int8(tmp_path / "broken.onnx", [[torch.rand(1)]], tmp_path / "int8.onnx")


class Absent:
    """Finds no ONNX Runtime, as where it is not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "onnxruntime":
            raise ModuleNotFoundError(f"No module named {name!r}", name="onnxruntime")


def test_without_onnxruntime_it_says_what_to_install(tiny, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(InputError, match=r"needs onnxruntime, which is not installed; .*understudy\[export\]"):
        onnxruntime_int8(tiny, [], tmp_path / "int8.onnx")
