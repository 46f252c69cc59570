"""Each rewriting of a QDQ graph keeps the answers, and leaves what ONNX Runtime executes in integers."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from understudy.export.qdq import rewrite_qdq
from understudy.runtimes.onnxruntime import exact_session

RANDOM = np.random.default_rng(0)


def integers(*shape):
    return RANDOM.integers(-127, 128, shape).astype(np.int8)


def floats(*shape, low=-1.0, high=1.0):
    return RANDOM.uniform(low, high, shape).astype(np.float32)


def scalar(value, dtype=np.float32):
    return np.asarray(value, dtype)


def written(path, body, *, shape="N,4,6,6", **constants):
    """A file with the graph of one input x and one output y."""
    text = f'<ir_version: 8, opset_import: ["": 17]> g (float[{shape}] x) => (float y) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    onnx.save(model, path)
    return path


def run(path, x, *, optimised=None):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if optimised is None:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    else:
        options.optimized_model_filepath = str(optimised)
    return exact_session(path, options).run(None, {"x": x})[0]


def rewritten(path, x, runtime="onnxruntime"):
    """The answers before and after, the operators that ONNX Runtime makes of the graph, and the new file."""
    target, optimised = path.with_name("new.onnx"), path.with_name("optimised.onnx")
    rewrite_qdq(path, target, runtime=runtime)
    expected, received = run(path, x), run(target, x, optimised=optimised)
    operators = Counter(node.op_type for node in onnx.load(optimised).graph.node)
    return expected, received, operators, onnx.load(target)


def constants_of(model):
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


QUANTIZED_INPUT = """
    xq = QuantizeLinear(x, xs, xz)
    xd = DequantizeLinear(xq, xs, xz)
"""
QUANTIZED_WEIGHT = """
    wq = QuantizeLinear<axis = 0>(w, ws, wz)
    wd = DequantizeLinear<axis = 0>(wq, ws, wz)
"""
QUANTIZED_OUTPUT = """
    aq = QuantizeLinear(a, as, az)
    y = DequantizeLinear(aq, as, az)
"""


def convolution(outputs=8, inputs=4, *, scales=None):
    """Constants of a quantized input and a quantized 3×3 convolution."""
    scales = floats(outputs, low=0.004, high=0.01) if scales is None else scales
    return {
        "xs": scalar(1 / 127),
        "xz": scalar(128, np.uint8),
        "w": integers(outputs, inputs, 3, 3) * scales[:, None, None, None],
        "ws": scales,
        "wz": np.zeros(outputs, np.int8),
    }


def output(scale=0.05, zero_point=100, dtype=np.uint8):
    return {"as": scalar(scale), "az": scalar(zero_point, dtype)}


def close(expected, received, step):
    """All but a few answers are the same; those were between two integers."""
    far = np.abs(expected - received)
    return far.max() <= 1.001 * step and (far > 1e-3 * step).mean() < 0.01


def test_a_weight_that_is_quantized_in_the_file_is_stored_as_integers(tmp_path):
    body = QUANTIZED_INPUT + QUANTIZED_WEIGHT + "a = Conv(xd, wd)" + QUANTIZED_OUTPUT
    path = written(tmp_path / "old.onnx", body, **convolution(), **output())
    expected, received, operators, model = rewritten(path, floats(16, 4, 6, 6))
    assert close(expected, received, 0.05)
    assert operators["QLinearConv"] == 1
    assert operators["Conv"] == 0
    assert [each.dims for each in model.graph.initializer if len(each.dims) == 4 and each.data_type == 1] == []
    assert [n.op_type for n in model.graph.node].count("QuantizeLinear") == 2  # of the input and the output


@pytest.mark.parametrize("bias", [False, True])
def test_a_batch_norm_moves_into_the_scales_and_the_bias(tmp_path, bias):
    conv = "c = Conv(xd, wd, cb)" if bias else "c = Conv(xd, wd)"
    body = QUANTIZED_INPUT + QUANTIZED_WEIGHT + conv + "a = BatchNormalization(c, g, b, m, v)" + QUANTIZED_OUTPUT
    gain = floats(8)
    gain[3] = 0.0  # a channel that training closed
    norm = {"g": gain, "b": floats(8), "m": floats(8), "v": floats(8, low=0.1, high=1.0)}
    path = written(
        tmp_path / "old.onnx", body, **convolution(), **norm, **output(), **({"cb": floats(8)} if bias else {})
    )
    expected, received, operators, _ = rewritten(path, floats(16, 4, 6, 6))
    assert (gain < 0).any()
    assert close(expected, received, 0.05)
    assert operators["QLinearConv"] == 1
    assert operators["BatchNormalization"] == operators["Conv"] == 0


def test_a_weight_without_an_opposite_stays_within_eight_bits(tmp_path):
    """-128 times a negative gain is not +128."""
    body = (
        QUANTIZED_INPUT + QUANTIZED_WEIGHT + "c = Conv(xd, wd) a = BatchNormalization(c, g, b, m, v)" + QUANTIZED_OUTPUT
    )
    conv = convolution()
    conv["w"][:, 0, 0, 0] = -128 * conv["ws"]
    ones = np.ones(8, np.float32)
    path = written(tmp_path / "old.onnx", body, **conv, g=-ones, b=0 * ones, m=0 * ones, v=ones, **output())
    expected, received, _, model = rewritten(path, floats(16, 4, 6, 6))
    stored = next(array for array in constants_of(model).values() if array.shape == (8, 4, 3, 3))
    assert (stored[:, 0, 0, 0] == 127).all()
    assert np.abs(expected - received).max() <= 0.051


def test_a_batch_norm_that_others_read_around_stays(tmp_path):
    body = QUANTIZED_INPUT + QUANTIZED_WEIGHT + "c = Conv(xd, wd) n = BatchNormalization(c, g, b, m, v) a = Add(c, n)"
    norm = {"g": floats(8), "b": floats(8), "m": floats(8), "v": floats(8, low=0.1, high=1.0)}
    path = written(tmp_path / "old.onnx", body + QUANTIZED_OUTPUT, **convolution(), **norm, **output())
    expected, received, _, _ = rewritten(path, floats(16, 4, 6, 6))
    assert close(expected, received, 0.05)


@pytest.mark.parametrize(
    ("clip", "scale", "zero_point", "dtype", "capped"),
    [
        ("a = Relu(c)", 0.02, 0, np.uint8, False),
        ("a = Clip(c, zero, six)", 6 / 255, 0, np.uint8, False),
        ("a = Clip(c, zero, six)", 2 / 255, 0, np.uint8, False),  # the quantizer saturates first
        ("a = Clip(c, zero, six)", 6.6 / 255, 0, np.uint8, True),  # the clip does
        ("a = Relu(c)", 0.02, 3, np.uint8, True),
        ("a = Relu(c)", 0.04, 0, np.int8, True),
        ("a = Clip(c, zero, six)", 0.06, 0, np.int8, True),
        ("a = Relu(c)", 0.02, -128, np.int8, False),
    ],
)
def test_the_quantizer_does_what_a_rectifier_did(tmp_path, clip, scale, zero_point, dtype, capped):
    body = QUANTIZED_INPUT + QUANTIZED_WEIGHT + f"c = Conv(xd, wd) {clip}" + QUANTIZED_OUTPUT
    conv = convolution(scales=np.full(8, 0.02, np.float32))
    limits = {"zero": scalar(0.0), "six": scalar(6.0)}
    path = written(tmp_path / "old.onnx", body, **conv, **limits, **output(scale, zero_point, dtype))
    x = floats(16, 4, 6, 6)
    expected, received, operators, _ = rewritten(path, x)
    assert expected.min() == 0
    assert expected.max() > 1.9
    assert close(expected, received, scale)
    assert operators["QLinearConv"] == 1
    assert operators["Conv"] == operators["FusedConv"] == operators["Clip"] == operators["Relu"] == 0
    assert operators["Min"] == capped


def test_a_clip_from_elsewhere_than_zero_stays(tmp_path):
    body = QUANTIZED_INPUT + QUANTIZED_WEIGHT + "c = Conv(xd, wd) a = Clip(c, low, six)" + QUANTIZED_OUTPUT
    limits = {"low": scalar(-1.0), "six": scalar(6.0)}
    path = written(tmp_path / "old.onnx", body, **convolution(), **limits, **output())
    expected, received, _, model = rewritten(path, 5 * floats(16, 4, 6, 6))
    assert close(expected, received, 0.05)
    assert [node.op_type for node in model.graph.node].count("Clip") == 1


DEPTHWISE = """
    aq = QuantizeLinear<axis = 1>(a, as, az)
    ad = DequantizeLinear<axis = 1>(aq, as, az)
    kq = QuantizeLinear<axis = 0>(k, ks, kz)
    kd = DequantizeLinear<axis = 0>(kq, ks, kz)
    d = Conv<group = 8>(ad, kd)
    dq = QuantizeLinear(d, ds, dz)
    y = DequantizeLinear(dq, ds, dz)
"""


def depthwise(multiplier=1):
    outputs = 8 * multiplier
    kernel = {"k": integers(outputs, 1, 3, 3) * np.float32(0.01), "ks": np.full(outputs, 0.01, np.float32)}
    scales = floats(8, low=0.01, high=0.03)
    return {
        **kernel,
        "as": scales,
        "az": np.zeros(8, np.uint8),
        "kz": np.zeros(outputs, np.int8),
        "ds": scalar(0.1),
        "dz": scalar(128, np.uint8),
    }


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize(
    ("between", "multiplications"),
    [
        ("c = Conv(xd, wd, cb) a = Relu(c)", 0),
        ("c = Conv(xd, wd, cb) a = Clip(c, zero, six)", 0),
        ("c = Conv(xd, wd, cb) e = BatchNormalization(c, g, b, m, v) a = Clip(e, zero, six)", 0),
        ("c = Conv(xd, wd, cb) s = Sigmoid(c) a = Mul(c, s)", 1),
    ],
)
def test_scales_per_channel_before_a_depthwise_convolution_become_one(tmp_path, between, multiplications, multiplier):
    body = QUANTIZED_INPUT + QUANTIZED_WEIGHT + between + DEPTHWISE
    constants = {"cb": floats(8), "zero": scalar(0.0), "six": scalar(6.0)}
    constants |= {"g": floats(8), "b": floats(8), "m": floats(8), "v": floats(8, low=0.1, high=1.0)}
    used = {name: value for name, value in constants.items() if f"{name})" in between or f"{name}," in between}
    path = written(tmp_path / "old.onnx", body, **convolution(), **used, **depthwise(multiplier))
    expected, received, operators, model = rewritten(path, floats(16, 4, 6, 6))
    assert expected.std() > 0.5
    assert close(expected, received, 0.1)
    assert operators["QLinearConv"] == 2 - multiplications
    mul = [node.op_type for node in model.graph.node].count("Mul")
    assert mul == multiplications * 2  # that of the activation and ours
    vectors = [node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.attribute]
    assert vectors == []
    stored = [
        node.input for node in model.graph.node if node.op_type == "DequantizeLinear" and "integers" in node.input[0]
    ]
    assert len({names[2] for names in stored}) == len(stored)  # no two share a zero point


@pytest.mark.parametrize("points", [np.zeros(8, np.uint8), np.arange(8, dtype=np.uint8)])
def test_scales_per_channel_that_do_not_become_one_are_written_out(tmp_path, points):
    body = QUANTIZED_INPUT + QUANTIZED_WEIGHT + "c = Conv(xd, wd) a = Relu(c)"
    body += DEPTHWISE.replace("y = ", "z = ") + "r = ReduceMean<axes = [2, 3], keepdims = 1>(ad) y = Add(z, r)"
    body = body.replace("a = Relu(c)", "a = Sigmoid(c)")
    constants = depthwise() | {"az": points, "as": floats(8, low=0.002, high=0.003)}
    path = written(tmp_path / "old.onnx", body, **convolution(), **constants)
    expected, received, _, model = rewritten(path, floats(16, 4, 6, 6))
    assert close(expected, received, 0.1)
    assert [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.attribute] == []


def test_signed_activations_become_unsigned(tmp_path):
    body = QUANTIZED_INPUT + QUANTIZED_WEIGHT + "a = Conv(xd, wd)" + QUANTIZED_OUTPUT
    conv = convolution() | {"xz": scalar(0, np.int8)}
    path = written(tmp_path / "old.onnx", body, **conv, **output(0.02, -5, np.int8))
    expected, received, operators, model = rewritten(path, floats(16, 4, 6, 6))
    assert close(expected, received, 0.02)
    assert operators["QLinearConv"] == 1
    known = constants_of(model)
    points = [known[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert [(int(point), point.dtype) for point in points] == [(128, np.uint8), (123, np.uint8)]


def test_biases_are_integers_in_units_of_input_and_weight_scale(tmp_path):
    body = QUANTIZED_INPUT + QUANTIZED_WEIGHT + "a = Conv(xd, wd, cb)" + QUANTIZED_OUTPUT
    conv, bias = convolution(), floats(8)
    path = written(tmp_path / "old.onnx", body, **conv, cb=bias, **output())
    expected, received, operators, model = rewritten(path, floats(16, 4, 6, 6))
    assert close(expected, received, 0.05)
    assert operators["QLinearConv"] == 1
    (stored,) = (array for array in constants_of(model).values() if array.dtype == np.int32 and array.any())
    np.testing.assert_allclose(stored * conv["ws"] / 127, bias, atol=float(conv["ws"].max()) / 127)


def test_a_closed_channel_keeps_its_bias(tmp_path):
    """In its own units the bias would not fit into 32 bits."""
    body = QUANTIZED_INPUT + QUANTIZED_WEIGHT + "a = Conv(xd, wd, cb)" + QUANTIZED_OUTPUT
    scales = floats(8, low=0.004, high=0.01)
    scales[5] = 1e-12
    path = written(tmp_path / "old.onnx", body, **convolution(scales=scales), cb=floats(8, low=0.5), **output())
    expected, received, _, _ = rewritten(path, floats(16, 4, 6, 6))
    assert np.abs(expected[:, 5]).min() > 0.4
    assert close(expected, received, 0.05)


def test_a_linear_layer_behind_pooling_and_flattening_is_done_in_integers(tmp_path):
    body = QUANTIZED_INPUT + QUANTIZED_WEIGHT
    body += "p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(xd) f = Flatten(p) y = Gemm<transB = 1>(f, wd, cb)"
    linear = convolution() | {"w": integers(8, 36) * np.float32(0.01), "ws": np.full(8, 0.01, np.float32)}
    path = written(tmp_path / "old.onnx", body, **linear, cb=floats(8))
    expected, received, operators, _ = rewritten(path, floats(16, 4, 6, 6))
    np.testing.assert_allclose(received, expected, atol=1e-3)
    assert operators["QGemm"] == 1
    assert operators["Gemm"] == operators["DequantizeLinear"] == 0


def test_a_weight_that_is_read_transposed_is_stored_transposed(tmp_path):
    body = QUANTIZED_INPUT + QUANTIZED_WEIGHT + "t = Transpose<perm = [1, 0]>(wd) y = MatMul(xd, t)"
    linear = convolution() | {"w": integers(8, 6) * np.float32(0.01), "ws": floats(8, low=0.01, high=0.02)}
    path = written(tmp_path / "old.onnx", body, **linear)
    x = floats(16, 4, 6, 6)
    expected, received, operators, model = rewritten(path, x)
    np.testing.assert_allclose(received, expected, atol=1e-3)
    np.testing.assert_allclose(run(tmp_path / "new.onnx", x), expected, atol=1e-3)  # not fused
    assert operators["MatMulIntegerToFloat"] == 1
    assert "Transpose" not in [node.op_type for node in model.graph.node]


def test_for_tensorrt_signed_activations_and_biases_stay(tmp_path):
    body = (
        QUANTIZED_INPUT + QUANTIZED_WEIGHT + "c = Conv(xd, wd) a = BatchNormalization(c, g, b, m, v)" + QUANTIZED_OUTPUT
    )
    norm = {"g": floats(8), "b": floats(8), "m": floats(8), "v": floats(8, low=0.1, high=1.0)}
    conv = convolution() | {"xz": scalar(0, np.int8)}
    path = written(tmp_path / "old.onnx", body, **conv, **norm, **output(0.02, 0, np.int8))
    expected, received, _, model = rewritten(path, floats(16, 4, 6, 6), runtime="tensorrt")
    assert close(expected, received, 0.02)
    assert "BatchNormalization" not in [node.op_type for node in model.graph.node]
    types = {array.dtype for array in constants_of(model).values()}
    assert types == {np.dtype(np.int8), np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("made", "scale", "point", "dtype", "expected"),
    [
        ("a = Relu(c)", 0.02, 0, np.uint8, 0.02 * 255 / 127),
        ("a = Relu(c)", 0.02, 55, np.uint8, 0.02 * 200 / 127),
        ("a = Identity(c)", 0.02, 100, np.uint8, 0.02 * 155 / 127),
        ("a = Identity(c)", 0.02, 200, np.uint8, 0.02 * 200 / 127),
        ("a = Identity(c)", 0.02, 28, np.int8, 0.02 * 156 / 127),
        ("a = Identity(c)", 0.02, 0, np.int8, 0.02),
    ],
)
def test_for_tensorrt_activations_get_the_range_around_zero_that_holds_theirs(
    tmp_path, made, scale, point, dtype, expected
):
    body = QUANTIZED_INPUT + QUANTIZED_WEIGHT + f"c = Conv(xd, wd) {made}" + QUANTIZED_OUTPUT
    conv = convolution() | {"xz": scalar(0, np.int8)}
    path = written(tmp_path / "old.onnx", body, **conv, **output(scale, point, dtype))
    before, after, _, model = rewritten(path, floats(16, 4, 6, 6), runtime="tensorrt")
    within = (before > before.min()) & (before < before.max())  # where the range ends, the wider one may go on
    assert np.abs(before - after)[within].max() <= (scale + expected) / 2 * 1.001
    known = constants_of(model)
    last = [node for node in model.graph.node if node.op_type == "QuantizeLinear"][-1]
    assert float(known[last.input[1]]) == pytest.approx(expected)
    assert known[last.input[2]] == np.int8(0)
    assert known[last.input[2]].dtype == np.int8
