"""A quantized network's int8 file answers as the network does, and ONNX Runtime executes it in integers."""

import copy
from collections import Counter

import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from conformance.digits_network import train, trained_digits
from understudy.edits.nncf_library import nncf_library
from understudy.errors import InputError
from understudy.export.qdq import quantized_onnx, rewrite_qdq
from understudy.foreign import quiet
from understudy.runtimes.onnxruntime import exact_session

pytestmark = pytest.mark.e2e
INTEGER = {"QLinearConv", "QLinearAdd", "QLinearGlobalAveragePool", "QGemm", "NhwcMaxPool", "Flatten", "Transpose"}


@pytest.fixture(scope="module")
def nncf():
    return nncf_library(needed_by="this test")


@pytest.fixture(scope="module")
def digits():
    return trained_digits()


def quantized(nncf, digits, *, preset="MIXED", **settings):
    with quiet():
        return nncf.quantize(
            digits.network,
            nncf.Dataset(digits.calibration()),
            subset_size=4,
            preset=getattr(nncf.QuantizationPreset, preset),
            **settings,
        ).eval()


def answers(path, x, optimised):
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(optimised), 3
    session = exact_session(path, options)
    found = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    return found, Counter(node.op_type for node in onnx.load(optimised).graph.node)


def changed(expected, received):
    return float((expected.argmax(1) != received.argmax(1)).float().mean())


@pytest.mark.parametrize("preset", ["MIXED", "PERFORMANCE"])
def test_every_layer_is_executed_in_integers_and_answers_stay(nncf, digits, tmp_path, preset):
    network = quantized(nncf, digits, preset=preset)
    before = copy.deepcopy(network.state_dict())
    quantized_onnx(network, [digits.test[:2]], tmp_path / "digits.onnx")
    received, operators = answers(tmp_path / "digits.onnx", digits.test, tmp_path / "optimised.onnx")
    with torch.no_grad():
        expected = network(digits.test)
    assert changed(expected, received) <= 0.01
    assert (expected - received).abs().max() < 0.1 * expected.std()
    assert (operators["QLinearConv"], operators["QLinearAdd"], operators["QGemm"]) == (7, 2, 1)
    assert operators.keys() - INTEGER == {"QuantizeLinear"}
    assert operators["QuantizeLinear"] == 1  # of the input
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_weights_lie_in_the_file_as_signed_bytes(nncf, digits, tmp_path):
    quantized_onnx(quantized(nncf, digits), [digits.test[:2]], tmp_path / "digits.onnx", outputs=["scores"])
    model = onnx.load(tmp_path / "digits.onnx")
    weights = [each for each in model.graph.initializer if len(each.dims) > 1]
    assert len(weights) == 8
    assert {each.data_type for each in weights} == {onnx.TensorProto.INT8}
    (port,) = model.graph.output
    assert (port.name, port.type.tensor_type.shape.dim[0].dim_param) == ("scores", "batch")


def test_what_training_with_quantizers_learnt_is_in_the_file(nncf, digits, tmp_path):
    network = quantized(nncf, digits)
    untrained = tmp_path / "untrained.onnx"
    quantized_onnx(network, [digits.test[:2]], untrained)
    train(network, digits.images, digits.labels, steps=40)
    quantized_onnx(network, [digits.test[:2]], tmp_path / "digits.onnx")
    received, operators = answers(tmp_path / "digits.onnx", digits.test, tmp_path / "optimised.onnx")
    earlier, _ = answers(untrained, digits.test, tmp_path / "optimised.onnx")
    with torch.no_grad():
        expected = network(digits.test)
    assert changed(expected, received) <= 0.01
    assert (expected - received).abs().max() < 0.1 * expected.std()
    assert (expected - earlier).abs().max() > 0.5 * expected.std()
    assert operators.keys() - INTEGER <= {"QuantizeLinear", "Min"}  # a clip at a bound that training has moved


class Named(nn.Module):
    """Calls a network by keyword, which is how texts reach theirs."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pixels):
        return self.network(input=pixels)


def test_a_module_that_holds_the_quantized_network_is_written_too(nncf, digits, tmp_path):
    network = quantized(nncf, digits)
    quantized_onnx(Named(network), [digits.test[:2]], tmp_path / "held.onnx", inputs=["pixels"])
    quantized_onnx(network, [digits.test[:2]], tmp_path / "bare.onnx")
    held, _ = answers(tmp_path / "held.onnx", digits.test, tmp_path / "optimised.onnx")
    bare, _ = answers(tmp_path / "bare.onnx", digits.test, tmp_path / "optimised.onnx")
    assert torch.equal(held, bare)


def test_weights_of_eight_bits_alone_stay_so_in_the_file(nncf, tmp_path):
    network = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10)).eval()
    x = torch.rand(5, 64)
    with quiet():
        light = nncf.compress_weights(network, mode=nncf.CompressWeightsMode.INT8_SYM, dataset=nncf.Dataset([x])).eval()
    quantized_onnx(light, [x[:2]], tmp_path / "light.onnx")
    received, _ = answers(tmp_path / "light.onnx", x, tmp_path / "optimised.onnx")
    with torch.no_grad():
        torch.testing.assert_close(received, light(x), atol=5e-4, rtol=0)  # scales are halves
    assert (tmp_path / "light.onnx").stat().st_size < 64 * 256 + 256 * 10 + 8192


def test_a_float_network_is_refused(digits, tmp_path):
    with pytest.raises(InputError, match="holds no quantizers of NNCF; quantize it first"):
        quantized_onnx(digits.network, [digits.test[:2]], tmp_path / "digits.onnx")
    assert not (tmp_path / "digits.onnx").exists()


def test_a_float_file_is_refused(digits, tmp_path):
    path = tmp_path / "float.onnx"
    with quiet():
        torch.onnx.export(digits.network, (digits.test[:2],), str(path), dynamo=False, opset_version=17)
    with pytest.raises(InputError, match=r"float\.onnx quantizes nothing; a float network becomes int8 by calibration"):
        rewrite_qdq(path, tmp_path / "new.onnx")
    assert not (tmp_path / "new.onnx").exists()


class Spectral(nn.Module):
    def forward(self, x):
        return torch.fft.fft2(x).abs()


def test_an_operator_without_a_form_in_onnx_is_named_with_its_layer(nncf, digits, tmp_path):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), Spectral(), nn.Flatten(), nn.Linear(144, 10)).eval()
    with quiet():
        network = nncf.quantize(network, nncf.Dataset(digits.calibration()[:1]), subset_size=1)
    with pytest.raises(InputError, match=r"fft.* in the layer '1'"):
        quantized_onnx(network, [digits.test[:2]], tmp_path / "digits.onnx")
