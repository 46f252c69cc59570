"""Files for TensorRT: what breaks its rules is named, and what is written for it breaks none."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper

from conformance.digits_network import trained_digits
from understudy.compress import quantize
from understudy.edits.nncf_library import nncf_library
from understudy.errors import InputError
from understudy.export import export
from understudy.export.qdq import quantized_onnx
from understudy.export.tensorrt import tensorrt_problems, trtexec_line
from understudy.foreign import quiet
from understudy.runtimes.onnxruntime import exact_session
from understudy.tasks import Classification

BODY = """
    xq = QuantizeLinear(x, xs, xz)
    xd = DequantizeLinear(xq, xs, xz)
    wd = DequantizeLinear<axis = 0>(w, ws, wz)
    y = Conv(xd, wd, b)
"""
CONSTANTS = {
    "xs": np.float32(0.1),
    "xz": np.int8(0),
    "w": np.ones((8, 4, 3, 3), np.int8),
    "ws": np.full(8, 0.1, np.float32),
    "wz": np.zeros(8, np.int8),
    "b": np.zeros(8, np.float32),
}


def written(path, body=BODY, *, shape="N,4,6,6", **changed):
    text = f'<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> g (float[{shape}] x) => (float y) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
    for name, value in {**CONSTANTS, **changed}.items():
        if value is not None:
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    onnx.save(model, path)
    return path


def test_a_file_that_fits_has_no_problems(tmp_path):
    assert tensorrt_problems(written(tmp_path / "model.onnx")) == []
    one = written(tmp_path / "one.onnx", BODY.replace("<axis = 0>", ""), ws=np.float32(0.1), wz=np.int8(0))
    assert tensorrt_problems(one) == []


def test_weights_may_be_quantized_in_the_file(tmp_path):
    body = BODY.replace("wd = ", "wq = QuantizeLinear<axis = 0>(w, ws, wz) wd = ").replace(
        "0>(w, ws, wz)\n", "0>(wq, ws, wz)\n"
    )
    assert "DequantizeLinear<axis = 0>(wq" in body
    assert tensorrt_problems(written(tmp_path / "model.onnx", body, w=np.ones((8, 4, 3, 3), np.float32))) == []


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"xz": np.int8(3)}, "node 'QuantizeLinear_0' (QuantizeLinear): zero points must be 0, one is 3"),
        (
            {"wz": -np.arange(8, dtype=np.int8)},
            "node 'DequantizeLinear_2' (DequantizeLinear): zero points must be 0, one is -7",
        ),
        ({"xz": np.uint8(0)}, "node 'DequantizeLinear_1' (DequantizeLinear): integers must be signed, with eight bits"),
        ({"xs": np.float32(0)}, "node 'QuantizeLinear_0' (QuantizeLinear): scales must be positive, the least is 0"),
        (
            {"ws": np.full(8, np.nan, np.float32)},
            "node 'DequantizeLinear_2' (DequantizeLinear): scales must be positive",
        ),
        (
            {"xs": np.full(4, 0.1, np.float32), "xz": np.zeros(4, np.int8)},
            "node 'QuantizeLinear_0' (QuantizeLinear): an activation has one scale, this one has 4",
        ),
        ({"w": np.ones((8, 4, 3, 3), np.uint8), "wz": np.zeros(8, np.uint8)}, "eight bits, these are uint8"),
    ],
)
def test_numbers_that_break_a_rule_are_named(tmp_path, changed, problem):
    assert any(problem in found for found in tensorrt_problems(written(tmp_path / "model.onnx", **changed)))


@pytest.mark.parametrize(
    ("old", "new", "changed", "problem"),
    [
        (
            "y = Conv(xd, wd, b)",
            "bd = DequantizeLinear<axis = 0>(b, ws, bz) y = Conv(xd, wd, bd)",
            {"b": np.zeros(8, np.int32), "bz": np.zeros(8, np.int32)},
            "node 'DequantizeLinear_3' (DequantizeLinear): biases stay in float, these are int32",
        ),
        ("y = Conv(xd", "y = Conv(x", {}, "node 'Conv_3' (Conv): its weight is quantized and its input is not"),
        (
            "y = Conv(xd, wd",
            "y = Conv(xd, v",
            {"v": np.ones((8, 4, 3, 3), np.float32)},
            "node 'Conv_3' (Conv): its input is quantized and its weight is not",
        ),
        (
            "<axis = 0>",
            "<axis = 1>",
            {"ws": np.full(4, 0.1, np.float32), "wz": np.zeros(4, np.int8)},
            "node 'Conv_3' (Conv): scales of its weight must be along its outputs (axis 0), they are along axis 1",
        ),
        (
            "y = Conv(xd, wd, b)",
            "m = Min(xq, xz) md = DequantizeLinear(m, xs, xz) y = Conv(md, wd, b)",
            {},
            "node 'QuantizeLinear_0' (QuantizeLinear): only DequantizeLinear may read its integers, Min does",
        ),
        (
            "y = Conv(xd, wd, b)",
            "m = Min(xq, xz) md = DequantizeLinear(m, xs, xz) y = Conv(md, wd, b)",
            {},
            "node 'DequantizeLinear_4' (DequantizeLinear): must stand behind a QuantizeLinear",
        ),
        ("xq = ", "xs = Abs(x) xq = ", {"xs": None}, "scale and zero point must be constants of the file"),
        (
            "y = Conv(xd, wd, b)",
            "z, zs, zz = DynamicQuantizeLinear(x) y = Conv(xd, wd, b)",
            {},
            "node 'DynamicQuantizeLinear_3' (DynamicQuantizeLinear): TensorRT has no operator of this name",
        ),
        (
            "y = Conv(xd, wd, b)",
            "c = Conv(xd, wd, b) y = com.microsoft.Gelu(c)",
            {},
            "node 'Gelu_4' (Gelu): TensorRT has no operator of this name",
        ),
    ],
)
def test_a_graph_that_breaks_a_rule_is_named(tmp_path, old, new, changed, problem):
    assert old in BODY
    found = tensorrt_problems(written(tmp_path / "model.onnx", BODY.replace(old, new), **changed))
    assert any(problem in each for each in found), found


@pytest.mark.parametrize(
    ("layer", "axis", "fits"), [("Gemm<transB = 1>", 0, True), ("Gemm", 0, False), ("MatMul", 1, True)]
)
def test_scales_of_linear_weights_lie_along_their_outputs(tmp_path, layer, axis, fits):
    body = BODY.replace("axis = 0", f"axis = {axis}").replace("Conv(xd, wd, b)", f"{layer}(xd, wd)")
    path = written(tmp_path / "model.onnx", body, shape="N,8", w=np.ones((8, 8), np.int8))
    assert (tensorrt_problems(path) == []) == fits


def test_a_float_file_quantizes_nothing(tmp_path):
    path = written(tmp_path / "model.onnx", "y = Relu(x)")
    assert tensorrt_problems(path) == ["the file quantizes nothing; TensorRT would build an engine in float"]


def test_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    for check in (tensorrt_problems, trtexec_line):
        with pytest.raises(InputError, match=r"broken\.onnx is not an ONNX file"):
            check(tmp_path / "broken.onnx")


def test_the_line_names_the_smallest_usual_and_largest_batch(tmp_path):
    path = written(tmp_path / "my model.onnx")
    line = trtexec_line(path, batch=(1, 4, 32))
    assert line == (
        f"trtexec '--onnx={path}' '--saveEngine={tmp_path / 'my model.plan'}' --stronglyTyped "
        "--minShapes=x:1x4x6x6 --optShapes=x:4x4x6x6 --maxShapes=x:32x4x6x6"
    )
    fixed = written(tmp_path / "fixed.onnx", shape="2,4,6,6")
    assert "Shapes" not in trtexec_line(fixed)


def test_open_dimensions_beside_the_batch_need_sizes(tmp_path):
    path = written(tmp_path / "text.onnx", "y = Relu(x)", shape="N,T,8")
    assert "--optShapes=x:8x128x8" in trtexec_line(path, sizes=(1, 128, 512))
    with pytest.raises(InputError, match="input 'x' has an open dimension 1 beside the batch"):
        trtexec_line(path)
    with pytest.raises(InputError, match=r"batch: expected the smallest, .* got \(4, 2, 8\)"):
        trtexec_line(path, batch=(4, 2, 8), sizes=(1, 2, 3))


@pytest.fixture(scope="module")
def digits():
    return trained_digits()


def quantized(digits, preset):
    nncf = nncf_library(needed_by="this test")
    data, kind = nncf.Dataset(digits.calibration()), getattr(nncf.QuantizationPreset, preset)
    with quiet():
        return nncf.quantize(digits.network, data, subset_size=4, preset=kind).eval()


@pytest.mark.e2e
@pytest.mark.parametrize("preset", ["PERFORMANCE", "MIXED"])
def test_what_nncf_has_quantized_fits_and_predicts_the_same(digits, tmp_path, preset):
    network = quantized(digits, preset)
    path = tmp_path / "digits.onnx"
    quantized_onnx(network, [digits.test[:2]], path, runtime="tensorrt")
    assert tensorrt_problems(path) == []
    assert "--optShapes=input:8x1x8x8" in trtexec_line(path)
    session = exact_session(path, ort.SessionOptions())
    received = torch.from_numpy(session.run(None, {"input": digits.test.numpy()})[0])
    with torch.no_grad():
        expected = network(digits.test)
    assert (expected.argmax(1) != received.argmax(1)).float().mean() <= 0.02
    assert (expected - received).abs().max() < 0.3 * expected.std()


@pytest.mark.e2e
def test_the_file_for_onnxruntime_breaks_rules_which_are_named(digits, tmp_path):
    quantized_onnx(quantized(digits, "MIXED"), [digits.test[:2]], tmp_path / "digits.onnx")
    found = tensorrt_problems(tmp_path / "digits.onnx")
    for problem in ("signed, with eight bits, these are uint8", "zero points must be 0", "biases stay in float"):
        assert any(problem in each for each in found)


@pytest.mark.e2e
def test_the_format_is_proved_and_knows_how_its_engine_is_built(digits, tmp_path):
    told = {"example": digits.test[:2], "task": Classification(), "classes": list("0123456789")}
    small = quantize(digits.network, digits.calibration(), task=told["task"]).network
    file = export(small, tmp_path, format="tensorrt", samples=[digits.test], **told)
    assert (file.path.name, file.card.precision, file.proof.proved) == ("model.tensorrt.onnx", "int8", True)
    assert tensorrt_problems(file.path) == []
    assert file.trtexec == trtexec_line(file.path)
    assert file.told()["trtexec"] == file.trtexec
    packed = quantize(digits.network, digits.calibration(), task=told["task"], mode="weights").network
    with pytest.raises(InputError, match="as TensorRT takes it: the file quantizes nothing"):
        export(packed, tmp_path / "packed", format="tensorrt", **told)
    assert not list((tmp_path / "packed").iterdir())
