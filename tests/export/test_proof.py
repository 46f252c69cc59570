"""A proof can fail: on figures, shapes, and operators of training."""

from pathlib import Path

import pytest
import torch
from torch import nn

from understudy.errors import InputError
from understudy.export import export, prove
from understudy.tasks import Classification

TASK = Classification()


@pytest.fixture(scope="session")
def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(6, 3).eval()


@pytest.fixture(scope="session")
def file(linear: nn.Linear, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proof")
    return export(
        linear, folder, format="torch_export", example=torch.rand(2, 6), task=TASK, classes=("a", "b", "c")
    ).path


@pytest.fixture
def samples() -> list[torch.Tensor]:
    return [torch.rand(100, 6)]


def moved(linear: nn.Linear, by: float) -> nn.Linear:
    """The network with one logit moved by a part of the logits' spread."""
    other = nn.Linear(6, 3)
    other.load_state_dict(linear.state_dict())
    with torch.no_grad():
        other.bias[0] += by
    return other.eval()


def test_the_same_network_is_proved(file, linear, samples) -> None:
    proof = prove(file, linear, samples, task=TASK, data="random")
    assert proof.proved
    assert proof.problems == ()
    assert proof.runtimes[0].shapes == ((100, 6), (1, 6), (3, 6))
    assert proof.operators == {"aten.linear.default": 1}
    assert (proof.measure, proof.bound) == ("difference", 1e-4)


def test_a_float_file_that_is_too_far_away_is_not(file, linear, samples) -> None:
    logits = linear(samples[0]).detach()
    spread = float((logits - logits.mean(-1, keepdim=True)).square().mean().sqrt())
    near = prove(file, moved(linear, 0.5e-4 * spread), samples, task=TASK, data="random")
    assert near.proved
    far = prove(file, moved(linear, 3e-4 * spread), samples, task=TASK, data="random")
    assert not far.proved
    assert far.runtimes[0].difference == pytest.approx(3e-4, rel=0.1)
    assert "in torch a logit is 0.0003" in far.problems[0]
    assert "at most 1e-04 is allowed" in far.problems[0]


def test_an_int8_file_may_change_one_prediction_in_a_hundred(file, linear) -> None:
    inputs = torch.rand(1000, 6)
    logits = linear(inputs).detach()
    margins = (logits[:, 1:].max(-1).values - logits[:, 0]).sort().values
    positive = margins[margins > 0]

    def proof_of(changes: int):
        other = moved(linear, float(positive[changes - 1] + positive[changes]) / 2)
        return prove(file, other, [inputs], task=TASK, data="random", precision="int8")

    allowed, refused = proof_of(8), proof_of(15)
    assert allowed.proved
    assert 0.007 <= allowed.runtimes[0].changed <= 0.01
    assert not refused.proved
    assert "predictions are others than PyTorch's; at most 1% may be" in refused.problems[0]


def test_a_file_of_one_batch_size_is_not_proved(tmp_path, linear) -> None:
    onnx = pytest.importorskip("onnx")
    port, stored = onnx.helper.make_tensor_value_info, onnx.numpy_helper.from_array
    node = onnx.helper.make_node("Gemm", ["input", "weight", "bias"], ["logits"], transB=1)
    weights = [stored(tensor.detach().numpy(), name) for name, tensor in linear.named_parameters()]
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [node], "fixed", [port("input", kind, [4, 6])], [port("logits", kind, [4, 3])], weights
    )
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), tmp_path / "fixed.onnx")
    proof = prove(tmp_path / "fixed.onnx", linear, [torch.rand(4, 6)], task=TASK, data="random")
    assert not proof.proved
    assert "onnxruntime does not run it: the ONNX graph cannot take 'input' (1, 6)" in proof.problems[0]
    assert (proof.version, proof.operators) == ("opset 18", {"Gemm": 1})


def test_an_operator_that_only_the_files_own_runtime_has_is_no_problem(tmp_path) -> None:
    class Determinants(nn.Module):
        def forward(self, matrices: torch.Tensor) -> torch.Tensor:
            found = torch.linalg.det(matrices)[:, None]
            return torch.cat([found, -found], dim=1)

    onnx = pytest.importorskip("onnx")
    make, port = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        make("Det", ["input"], ["flat"]),
        make("Unsqueeze", ["flat", "axis"], ["found"]),
        make("Neg", ["found"], ["negative"]),
        make("Concat", ["found", "negative"], ["logits"], axis=1),
    ]
    kind = onnx.TensorProto.FLOAT
    axis = onnx.helper.make_tensor("axis", onnx.TensorProto.INT64, [1], [1])
    graph = onnx.helper.make_graph(
        nodes, "det", [port("input", kind, ["n", 3, 3])], [port("logits", kind, ["n", 2])], [axis]
    )
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), tmp_path / "det.onnx")
    proof = prove(tmp_path / "det.onnx", Determinants(), [torch.rand(8, 3, 3)], task=TASK, data="random")
    assert proof.proved
    assert [each.runtime for each in proof.runtimes] == ["onnxruntime"]
    assert "det.onnx cannot be read by OpenVINO" in proof.not_run["openvino"]


def test_answers_of_another_shape_or_not_finite_are_named(file, samples) -> None:
    proof = prove(file, nn.Linear(6, 4).eval(), samples, task=TASK, data="random")
    assert proof.problems == (
        "torch does not run it: its answers are of another shape for inputs of the shape (100, 6)",
    )


def test_a_runtime_that_refuses_the_inputs_is_named(file) -> None:
    class Narrow(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return values[:, :3]

    proof = prove(file, Narrow(), [torch.rand(4, 5)], task=TASK, data="random")
    assert not proof.proved
    assert "torch does not run it: the exported program cannot take 'input' (4, 5)" in proof.problems[0]


def test_no_sample_is_an_error(file, linear) -> None:
    with pytest.raises(InputError, match="at least one batch"):
        prove(file, linear, [], task=TASK, data="nothing")
