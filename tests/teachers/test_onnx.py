"""A teacher in an ONNX file: graphs that are written here by hand, run by the real ONNX Runtime."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from understudy import Batch, Classification, Distiller, Ensemble, InputError, ModuleTeacher, OnnxTeacher, SoftTargets
from understudy.identity import identity_of
from understudy.teachers import Teacher

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

CLASSES = 5
ANY = "n"


def weights(rows: int) -> Tensor:
    return torch.randn(rows, CLASSES, generator=torch.Generator().manual_seed(1))


def linear(
    path: Path,
    shape: Sequence[int | str] = (ANY, 3, 4, 6),
    *,
    end: str = "",
    channels_last: bool = False,
    type: int = TensorProto.FLOAT,
    classes: int = CLASSES,
    extra: bool = False,
) -> Path:
    """A file with ``flatten(x) @ weights``, in the order of (channels, height, width) however it takes the images."""
    matrix = weights(3 * 4 * 6)[:, :classes]
    nodes, last = [], "x"
    if channels_last:
        nodes.append(helper.make_node("Transpose", [last], ["t"], perm=[0, 3, 1, 2]))
        last = "t"
    if type != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [last], ["c"], to=TensorProto.FLOAT))
        last = "c"
    nodes.append(helper.make_node("Flatten", [last], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "w"], ["z"]))
    last = "z"
    if end:
        nodes.append(helper.make_node(end, [last], ["p"]))
        nodes.append(helper.make_node("Identity", ["p"], ["out"]))
        last = "out"
    outputs = [helper.make_tensor_value_info(last, TensorProto.FLOAT, [shape[0], classes])]
    if extra:
        outputs.insert(0, helper.make_tensor_value_info("label", TensorProto.INT64, [shape[0]]))
        nodes.append(helper.make_node("ArgMax", ["z"], ["label"], axis=1, keepdims=0))
        outputs.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, [shape[0], 72]))
    write(path, nodes, [helper.make_tensor_value_info("x", type, list(shape))], outputs, {"w": matrix})
    return path


def write(path: Path, nodes, inputs, outputs, tensors) -> None:
    initializers = [numpy_helper.from_array(tensor.numpy(), name) for name, tensor in tensors.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, str(path))


def images(count: int = 7) -> Tensor:
    return torch.rand(count, 3, 4, 6)


def expected(inputs: Tensor) -> Tensor:
    rows = [
        [sum(a * b for a, b in zip(row, column, strict=True)) for column in weights(72).double().T.tolist()]
        for row in inputs.double().flatten(1).tolist()
    ]
    return torch.tensor(rows)


def close(answer: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(answer, wanted.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", ["auto", "channels_first"])
def test_answers_like_the_graph(tmp_path: Path, layout) -> None:
    teacher = OnnxTeacher(linear(tmp_path / "t.onnx"), layout=layout)
    assert isinstance(teacher, Teacher)
    batch = Batch(images(), mask=torch.ones(7, dtype=torch.bool))
    answer = teacher.observe(batch)
    close(answer.logits, expected(batch.inputs))
    assert answer.mask is batch.mask
    assert not answer.logits.requires_grad
    assert (teacher.classes, teacher.probabilities) == (CLASSES, False)
    assert "'x' (any, 3, 4, 6) float32 to 'z' (any, 5) float32, read as logits" in teacher.describe()


@pytest.mark.parametrize("size", [1, 3, 7, 10])
def test_a_fixed_batch_size_is_filled_up(tmp_path: Path, size: int) -> None:
    teacher = OnnxTeacher(linear(tmp_path / "t.onnx", (size, 3, 4, 6)))
    for count in (7, 3, 1):
        inputs = images(count)
        close(teacher.observe(Batch(inputs)).logits, expected(inputs))


@pytest.mark.parametrize("shape", [(ANY, 4, 6, 3), (ANY, None, None, 3), (2, 4, 6, 3)])
def test_images_with_their_channels_last_are_recognised(tmp_path: Path, shape) -> None:
    teacher = OnnxTeacher(linear(tmp_path / "t.onnx", shape, channels_last=True))
    inputs = images()
    close(teacher.observe(Batch(inputs)).logits, expected(inputs))


def test_where_both_layouts_fit_one_has_to_be_said(tmp_path: Path) -> None:
    path = linear(tmp_path / "t.onnx", (ANY, "a", "b", "c"), channels_last=True)
    inputs = images()
    with pytest.raises(InputError, match="say layout='channels_first' or layout='channels_last'"):
        OnnxTeacher(path).observe(Batch(inputs))
    close(OnnxTeacher(path, layout="channels_last").observe(Batch(inputs)).logits, expected(inputs))
    first = linear(tmp_path / "f.onnx", (ANY, "a", "b", "c"))
    close(OnnxTeacher(first, layout="channels_first").observe(Batch(inputs)).logits, expected(inputs))


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_a_layout_that_does_not_fit_is_refused(tmp_path: Path, layout) -> None:
    shape = (ANY, 3, 4, 6) if layout == "channels_last" else (ANY, 4, 6, 3)
    teacher = OnnxTeacher(linear(tmp_path / "t.onnx", shape, channels_last=layout == "channels_first"), layout=layout)
    with pytest.raises(InputError, match="expected the same sizes"):
        teacher.observe(Batch(images()))


def test_a_softmax_at_the_end_is_undone_by_the_logarithm(tmp_path: Path) -> None:
    teacher = OnnxTeacher(linear(tmp_path / "t.onnx", end="Softmax"))
    assert teacher.probabilities is True
    inputs = images()
    close(teacher.observe(Batch(inputs)).logits, expected(inputs).log_softmax(-1))
    assert "probabilities (found out), whose logarithm is taken" in teacher.describe()
    as_logits = OnnxTeacher(tmp_path / "t.onnx", probabilities=False)
    close(as_logits.observe(Batch(inputs)).logits, expected(inputs).softmax(-1))


def test_a_log_softmax_is_logits_already(tmp_path: Path) -> None:
    teacher = OnnxTeacher(linear(tmp_path / "t.onnx", end="LogSoftmax"))
    inputs = images()
    close(teacher.observe(Batch(inputs)).logits, expected(inputs).log_softmax(-1))


def test_probabilities_without_a_softmax_are_recognised_by_the_first_answer(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Exp", ["x"], ["e"]),
        helper.make_node("ReduceSum", ["e", "axis"], ["s"], keepdims=1),
        helper.make_node("Div", ["e", "s"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [ANY, 4]) for name in "xy"]
    write(tmp_path / "t.onnx", nodes, ports[:1], ports[1:], {"axis": torch.tensor([1])})
    teacher = OnnxTeacher(tmp_path / "t.onnx")
    assert teacher.probabilities is None
    inputs = torch.randn(6, 4)
    inputs[0, 0] = -300.0  # its probability is zero: the smallest number instead
    answer = teacher.observe(Batch(inputs)).logits
    assert teacher.probabilities is True
    close(answer[1:], inputs[1:].log_softmax(-1))
    assert float(answer[0, 0]) == pytest.approx(-87.34, abs=0.01)


def test_logits_that_are_said_to_be_probabilities_are_refused(tmp_path: Path) -> None:
    teacher = OnnxTeacher(linear(tmp_path / "t.onnx"), probabilities=True)
    with pytest.raises(InputError, match="expected none below 0, and a sum of 1"):
        teacher.observe(Batch(images()))


def test_a_sigmoid_for_each_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its classes do not exclude each other"):
        OnnxTeacher(linear(tmp_path / "t.onnx", end="Sigmoid"))


def test_the_output_is_the_first_of_floating_point_or_the_named_one(tmp_path: Path) -> None:
    path, inputs = linear(tmp_path / "t.onnx", extra=True), images()
    close(OnnxTeacher(path).observe(Batch(inputs)).logits, expected(inputs))
    close(OnnxTeacher(path, output="flat").observe(Batch(inputs)).logits, inputs.flatten(1))
    with pytest.raises(InputError, match="no output 'flot'; nearest: 'flat'"):
        OnnxTeacher(path, output="flot")
    with pytest.raises(InputError, match="expected logits or probabilities in a tensor of floating point"):
        OnnxTeacher(path, output="label")


def two_inputs(path: Path) -> Path:
    ports = [helper.make_tensor_value_info(name, TensorProto.INT64, [ANY, 4]) for name in ("ids", "mask")]
    nodes = [
        helper.make_node("Mul", ["ids", "mask"], ["m"]),
        helper.make_node("Cast", ["m"], ["logits"], to=TensorProto.FLOAT),
    ]
    write(path, nodes, ports, [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [ANY, 4])], {})
    return path


def test_mappings_go_in_by_name_and_tuples_by_position(tmp_path: Path) -> None:
    teacher = OnnxTeacher(two_inputs(tmp_path / "t.onnx"))
    ids, mask = torch.randint(9, (6, 4)), torch.randint(2, (6, 4))
    named = {"token_type_ids": torch.zeros_like(ids), "mask": mask.bool(), "ids": ids.int()}
    close(teacher.observe(Batch(named)).logits, ids * mask)
    close(teacher.observe(Batch((ids, mask))).logits, ids * mask)
    with pytest.raises(InputError, match="needs the inputs 'ids', 'mask', and the batch has 'ids', 'attention'"):
        teacher.observe(Batch({"ids": ids, "attention": mask}))
    with pytest.raises(InputError, match=r"needs 2 inputs .* and the batch has 1"):
        teacher.observe(Batch(ids))
    with pytest.raises(InputError, match=r"takes 'ids' .* int64, and the batch is torch.float32"):
        teacher.observe(Batch((ids.float(), mask)))


def test_inputs_of_another_precision_are_converted_and_of_another_kind_refused(tmp_path: Path) -> None:
    inputs = images()
    half = OnnxTeacher(linear(tmp_path / "h.onnx", type=TensorProto.DOUBLE))
    close(half.observe(Batch(inputs)).logits, expected(inputs))
    whole = OnnxTeacher(linear(tmp_path / "u.onnx", type=TensorProto.UINT8))
    with pytest.raises(InputError, match=r"uint8, and the batch is torch.float32; images are numbers from 0 to 1 here"):
        whole.observe(Batch(inputs))


def test_the_file_can_leave_the_normalisation_to_the_teacher(tmp_path: Path) -> None:
    path, inputs, mean, std = linear(tmp_path / "t.onnx"), images(), (0.5, 0.4, 0.3), (0.1, 0.2, 0.5)
    normal = torch.stack([(inputs[:, each] - mean[each]) / std[each] for each in range(3)], dim=1)
    close(OnnxTeacher(path, mean=mean, std=std).observe(Batch(inputs)).logits, expected(normal))
    close(OnnxTeacher(path, mean=[0.5], std=[0.2]).observe(Batch(inputs)).logits, expected((inputs - 0.5) / 0.2))
    with pytest.raises(InputError, match="expected both or neither"):
        OnnxTeacher(path, mean=mean)
    with pytest.raises(InputError, match="expected equally many values, those of std above 0"):
        OnnxTeacher(path, mean=mean, std=(1.0, 0.0, 1.0))
    with pytest.raises(InputError, match="mean and std have 2 values, and the inputs 3 channels"):
        OnnxTeacher(path, mean=(0.5, 0.5), std=(1.0, 1.0)).observe(Batch(inputs))


@pytest.mark.parametrize("inputs", [torch.rand(7, 1, 4, 6), torch.rand(7, 3, 4, 5), torch.rand(7, 72)])
def test_a_batch_of_another_shape_is_refused(tmp_path: Path, inputs: Tensor) -> None:
    teacher = OnnxTeacher(linear(tmp_path / "t.onnx"))
    with pytest.raises(InputError, match=r"takes 'x' \(any, 3, 4, 6\) float32, and the batch has the shape \(7, "):
        teacher.observe(Batch(inputs))


def test_a_graph_that_joins_the_samples_is_refused(tmp_path: Path) -> None:
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [ANY, 4])]
    nodes = [helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])]
    write(tmp_path / "t.onnx", nodes, ports, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, ANY])], {})
    with pytest.raises(InputError, match=r"the shape \(4, 7\) for 7 samples; expected a row for each"):
        OnnxTeacher(tmp_path / "t.onnx").observe(Batch(torch.randn(7, 4)))


def test_what_only_shows_while_the_graph_runs_is_an_error_for_people(tmp_path: Path) -> None:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [ANY, "k"]) for name in "xy"]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    write(tmp_path / "t.onnx", nodes, ports[:1], ports[1:], {"w": torch.ones(4, 4)})
    with pytest.raises(InputError, match=r"the ONNX graph cannot take 'x' \(7, 3\): .*MatMul"):
        OnnxTeacher(tmp_path / "t.onnx").observe(Batch(torch.randn(7, 3)))


def test_it_has_no_layers(tmp_path: Path) -> None:
    teacher = OnnxTeacher(linear(tmp_path / "t.onnx"))
    with pytest.raises(InputError, match="no layers can be read, asked for 'layer3'"):
        teacher.observe(Batch(images()), ("layer3",))


def test_missing_and_broken_files(tmp_path: Path) -> None:
    path = linear(tmp_path / "teacher.onnx")
    with pytest.raises(InputError, match=r"there is no ONNX file '.*taecher.onnx'; nearest: 'teacher.onnx'"):
        OnnxTeacher(tmp_path / "taecher.onnx")
    whole = path.read_bytes()
    for broken in (b"", b"not a graph at all", whole[: len(whole) // 2], whole[:-3]):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"teacher\.onnx (is not an ONNX file|cannot be run)"):
            OnnxTeacher(path)


def test_an_operator_that_does_not_exist(tmp_path: Path) -> None:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [ANY, 4]) for name in "xy"]
    write(tmp_path / "t.onnx", [helper.make_node("Conjure", ["x"], ["y"])], ports[:1], ports[1:], {})
    with pytest.raises(InputError, match=r"t\.onnx cannot be run by ONNX Runtime: .*Conjure"):
        OnnxTeacher(tmp_path / "t.onnx")


def test_its_identity_is_that_of_the_file_and_of_how_it_is_read(tmp_path: Path) -> None:
    path = linear(tmp_path / "t.onnx")
    teacher = OnnxTeacher(path)
    assert identity_of(teacher) == teacher.identity == hashlib.sha256(path.read_bytes()).hexdigest()
    others = [
        OnnxTeacher(path, mean=[0.5], std=[0.5]),
        OnnxTeacher(path, probabilities=True),
        OnnxTeacher(path, output="z"),
        OnnxTeacher(linear(tmp_path / "u.onnx", end="Softmax")),
    ]
    assert len({teacher.identity, *(other.identity for other in others)}) == 5
    assert identity_of(Ensemble([teacher, teacher])) is not None


def test_weights_beside_the_file_count_and_must_be_there(tmp_path: Path) -> None:
    model = onnx.load(str(linear(tmp_path / "t.onnx")))
    onnx.save(model, str(tmp_path / "big.onnx"), save_as_external_data=True, location="big.weights", size_threshold=0)
    inputs, weights_file = images(), tmp_path / "big.weights"
    teacher = OnnxTeacher(tmp_path / "big.onnx")
    close(teacher.observe(Batch(inputs)).logits, expected(inputs))
    assert teacher.identity != hashlib.sha256((tmp_path / "big.onnx").read_bytes()).hexdigest()
    content = bytearray(weights_file.read_bytes())
    content[5] ^= 1
    weights_file.write_bytes(content)
    assert OnnxTeacher(tmp_path / "big.onnx").identity != teacher.identity
    weights_file.unlink()
    with pytest.raises(InputError, match=r"needs the files 'big\.weights' beside it"):
        OnnxTeacher(tmp_path / "big.onnx")


def test_without_the_libraries_it_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    path = linear(tmp_path / "t.onnx")
    for library in ("onnxruntime", "onnx"):
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(InputError, match=rf"needs {library}, .* pip install 'understudy\[export\]'"):
            OnnxTeacher(path)


def test_it_teaches_and_other_classes_are_refused(tmp_path: Path) -> None:
    student = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(72, CLASSES))
    teacher, inputs = OnnxTeacher(linear(tmp_path / "t.onnx")), images()
    step = Distiller(student, teacher, SoftTargets(), example=Batch(inputs))(Batch(inputs))
    live = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(72, CLASSES, bias=False))
    live[1].weight.data = weights(72).T.contiguous()
    same = Distiller(student, ModuleTeacher(live, task=Classification()), SoftTargets(), example=Batch(inputs))
    torch.testing.assert_close(step.loss, same(Batch(inputs)).loss, rtol=1e-4, atol=1e-5)
    fewer = OnnxTeacher(linear(tmp_path / "f.onnx", classes=4))
    with pytest.raises(InputError, match="the teacher has 4 classes and the student 5"):
        Distiller(student, fewer, SoftTargets(), example=Batch(inputs))
