"""Errors name the operator, and the layer that it comes from."""

import pytest
import torch
from torch import Tensor, nn

from understudy.errors import InputError
from understudy.export import export
from understudy.export.blame import decisions_in, of_decisions
from understudy.export.traced import traced
from understudy.tasks import Classification


@torch.library.custom_op("understudy_test::shout", mutates_args=())
def shout(values: Tensor) -> Tensor:
    return values * 2


@shout.register_fake
def _(values: Tensor) -> Tensor:
    return torch.empty_like(values)


class Shouting(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return torch.ops.understudy_test.shout(values)


class Spectral(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return torch.fft.fft(values).abs()


class Deciding(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values * 2 if values.sum() > 0 else values


def holding(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Sequential(nn.ReLU(), layer), nn.Linear(8, 3))


def exported(model: nn.Module, tmp_path, kind: str, example: Tensor | None = None) -> None:
    example = torch.rand(2, 6) if example is None else example
    export(model, tmp_path, format=kind, example=example, task=Classification(), classes=("a", "b", "c"))


@pytest.mark.parametrize("kind", ["openvino", "torch_export"])
def test_an_operator_of_somebodys_own_is_named_with_its_layer(tmp_path, kind) -> None:
    with pytest.raises(InputError, match=r"has no form of understudy_test::shout in the layer '1\.1'"):
        exported(holding(Shouting()), tmp_path, kind)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.e2e
@pytest.mark.parametrize("kind", ["onnx", "executorch"])
def test_and_in_the_slower_formats(tmp_path, kind) -> None:
    with pytest.raises(InputError, match=r"has no form of understudy_test::shout in the layer '1\.1'"):
        exported(holding(Shouting()), tmp_path, kind)


def test_complex_numbers_are_named_with_their_layer(tmp_path) -> None:
    with pytest.raises(InputError, match=r"converted to OpenVINO, which has no form of .*fft.* in the layer '1\.1'"):
        exported(holding(Spectral()), tmp_path, "openvino")


@pytest.mark.parametrize("kind", ["onnx", "openvino", "torch_export"])
def test_a_decision_by_values_is_named_with_its_layer(tmp_path, kind, capfd) -> None:
    with pytest.raises(InputError, match=r"decides by the values of its inputs in the layer '1\.1'"):
        exported(holding(Deciding()), tmp_path, kind)
    assert "torch.ops" not in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_decision_is_not_traced_into_a_recurrent_network(tmp_path, recurrent, kind) -> None:
    with pytest.raises(InputError, match="decides by the values of its inputs in the layer 'middle'"):
        exported(recurrent("GRU", Deciding()), tmp_path, kind, torch.rand(2, 4, 6))


def test_a_question_that_is_not_asked_while_tracing_is_no_decision(tmp_path, recurrent) -> None:
    class Checking(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            if not torch.jit.is_tracing() and bool((values > 1e6).any()):
                raise ValueError("too large")
            return values

    model = recurrent("GRU", Checking())
    model.head = nn.Linear(16, 3)
    exported(model, tmp_path, "onnx", torch.rand(2, 4, 6))
    assert (tmp_path / "model.onnx").is_file()


def test_only_questions_about_values_are_decisions(recurrent) -> None:
    class BySize(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return values * 2 if values.shape[0] > 1 else values

    class After(Deciding):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.ReLU()

        def forward(self, values: Tensor) -> Tensor:
            return super().forward(self.inner(values))

    for layer, layers in ((BySize(), []), (Deciding(), ["middle"]), (After(), ["middle"])):
        network = traced(recurrent("GRU", layer), torch.rand(2, 4, 6), Classification())
        assert list(decisions_in(network.flat, network.tensors).values()) == layers


def test_errors_of_decisions_are_told_from_others() -> None:
    assert of_decisions(RuntimeError("Could not guard on data-dependent expression Eq(u0, 1)"))
    assert not of_decisions(RuntimeError("shapes do not match"))
