"""Exported files are opened by the runtime that executes them, and called like the network."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from understudy.batch import Batch
from understudy.errors import InputError
from understudy.runtimes import Card, open_model, runtimes_for
from understudy.tasks import Classification

WAYS = [(".onnx", "onnxruntime"), (".onnx", "openvino"), (".xml", "openvino"), (".pt2", "torch")]
each_way = pytest.mark.parametrize(("suffix", "runtime"), WAYS)


@each_way
@pytest.mark.parametrize("count", [1, 3, 40])
def test_a_file_answers_as_the_network_for_any_batch(exported, network, suffix, runtime, count) -> None:
    model = open_model(exported[suffix], runtime=runtime, threads=1)
    inputs = torch.rand(count, 2, 4)
    torch.testing.assert_close(model(inputs), network(inputs))
    assert model.runtime == runtime


@each_way
def test_a_task_calls_it_like_any_network(exported, network, suffix, runtime) -> None:
    model, batch = open_model(exported[suffix], runtime=runtime), Batch(inputs=torch.rand(5, 2, 4))
    answer = Classification().observe(model, batch).logits
    torch.testing.assert_close(answer, network(batch.inputs))


@each_way
def test_the_card_comes_from_inside_the_file(exported, tmp_path, suffix, runtime) -> None:
    moved = tmp_path / f"renamed{suffix}"
    shutil.copy(exported[suffix], moved)
    if suffix == ".xml":
        shutil.copy(exported[suffix].with_suffix(".bin"), moved.with_suffix(".bin"))
    card = open_model(moved, runtime=runtime).card
    assert isinstance(card, Card)
    assert card.classes == ("cat", "dog", "owl")
    assert card.task == "classification"
    assert [(port.name, port.shape, port.dtype) for port in card.inputs] == [("input", (2, 4), "float32")]
    assert len(card.weights) == 64


@each_way
def test_its_ports_are_named_and_take_any_batch(exported, suffix, runtime) -> None:
    session = open_model(exported[suffix], runtime=runtime).session
    assert [str(port) for port in session.inputs] == ["'input' (any, 2, 4) float32"]
    assert [port.name for port in session.outputs] == ["logits"]


@each_way
@pytest.mark.parametrize("shape", [(2, 2, 5), (2, 8, 1, 1)])
def test_inputs_of_another_shape_are_refused_by_name(exported, suffix, runtime, shape) -> None:
    with pytest.raises(InputError, match=r"cannot take 'input' \(2, "):
        open_model(exported[suffix], runtime=runtime)(torch.rand(shape))


@each_way
def test_other_inputs_than_the_files_are_refused(exported, suffix, runtime) -> None:
    model = open_model(exported[suffix], runtime=runtime)
    with pytest.raises(InputError, match="takes 'input', it was given pixels"):
        model(pixels=torch.rand(2, 2, 4))
    with pytest.raises(InputError, match="takes 'input', it was given 2 tensors"):
        model(torch.rand(2, 2, 4), torch.rand(2, 2, 4))


@each_way
def test_a_torn_file_is_refused(exported, tmp_path, suffix, runtime) -> None:
    torn = tmp_path / f"torn{suffix}"
    content = exported[suffix].read_bytes()
    torn.write_bytes(content[: len(content) // 2])
    if suffix == ".xml":
        shutil.copy(exported[suffix].with_suffix(".bin"), torn.with_suffix(".bin"))
    with pytest.raises(InputError, match="torn"):
        open_model(torn, runtime=runtime)


def test_openvino_weights_that_are_not_there_are_named(exported, tmp_path) -> None:
    alone = tmp_path / "alone.xml"
    shutil.copy(exported[".xml"], alone)
    with pytest.raises(InputError, match=r"alone\.xml has its weights in alone\.bin, which is not beside it"):
        open_model(alone)


def test_runtimes_are_named_with_what_to_install(monkeypatch) -> None:
    assert runtimes_for("m.onnx") == {"onnxruntime": None, "openvino": None}
    for library in ("onnxruntime", "executorch"):
        monkeypatch.setitem(sys.modules, library, None)
    assert runtimes_for("m.onnx") == {
        "onnxruntime": "onnxruntime is not installed; install it with pip install 'understudy[export]'",
        "openvino": None,
    }
    assert "understudy[phones]" in runtimes_for(Path("m.pte"))["executorch"]


def test_the_next_runtime_is_asked_when_the_first_is_not_installed(exported, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert open_model(exported[".onnx"]).runtime == "openvino"
    with pytest.raises(InputError, match=r"cannot be run by onnxruntime here: .*understudy\[export\]"):
        open_model(exported[".onnx"], runtime="onnxruntime")


def test_bad_requests_are_explained(exported) -> None:
    with pytest.raises(InputError, match=r"runtime 'onnxruntim' does not execute \.onnx files; nearest: 'onnxruntime'"):
        open_model(exported[".onnx"], runtime="onnxruntim")
    with pytest.raises(InputError, match="runtime 'torch' does not execute"):
        open_model(exported[".onnx"], runtime="torch")
    with pytest.raises(InputError, match=r"expected one of \.onnx, \.xml, \.pte, \.pt2"):
        open_model("model.safetensors")
    with pytest.raises(InputError, match=r"there is no file .*; nearest: 'model.onnx'"):
        open_model(exported[".onnx"].with_name("modl.onnx"))
    with pytest.raises(InputError, match="threads must be one or more, got 0"):
        open_model(exported[".onnx"], threads=0)


def test_a_card_of_a_later_version_is_refused(exported, tmp_path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(exported[".onnx"])
    onnx.helper.set_model_props(model, {"understudy": '{"schema": 2}'})
    onnx.save(model, tmp_path / "later.onnx")
    with pytest.raises(InputError, match=r"later\.onnx carries a card that this version cannot read"):
        open_model(tmp_path / "later.onnx")


def test_a_file_from_elsewhere_has_no_card(tmp_path) -> None:
    onnx = pytest.importorskip("onnx")
    float_type, ports = onnx.TensorProto.FLOAT, onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [ports("x", float_type, ["n", 3])], [ports("y", float_type, ["n", 3])])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10),
        tmp_path / "r.onnx",
    )
    model = open_model(tmp_path / "r.onnx")
    assert model.card is None
    assert torch.equal(model(torch.tensor([[-1.0, 0.0, 2.0]])), torch.tensor([[0.0, 0.0, 2.0]]))


def test_threads_of_torch_are_as_before_after_a_call(exported) -> None:
    before = torch.get_num_threads()
    open_model(exported[".pt2"], threads=before + 1)(torch.rand(1, 2, 4))
    assert torch.get_num_threads() == before


def test_it_is_a_module_without_parameters(exported) -> None:
    model = open_model(exported[".onnx"])
    assert isinstance(model, nn.Module)
    assert list(model.parameters()) == []
