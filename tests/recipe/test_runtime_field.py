"""What a recipe may say of a teacher's runtime, and of a teacher in an ONNX file, before anything runs."""

from pathlib import Path

import pytest

from understudy.pipeline.elsewhere import Onnx
from understudy.pipeline.stages import Distill, Record
from understudy.recipe.loading import parse_recipe
from understudy.recipe.problems import RecipeError
from understudy.sources.preprocess import Preprocess

TEXT = """\
version: 1
name: runtimes
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: big
    model: &model {source: understudy, name: mlp, arguments: {hidden: [8]}}
    training: &training {epochs: 1, optimizer: {lr: 0.1}}
  - kind: record
    name: answers
    teacher: RECORDED
  - kind: distill
    name: student
    model: *model
    training: *training
    teacher: TEACHER
    objective: [{kind: TERM}]
"""
HINT = "hint, student_layer: hidden1, teacher_layer: hidden1"
ONNX = "{kind: onnx, path: t.onnx}"
TABLE = "{kind: table, path: t.csv}"


def text_with(teacher: str = "big", term: str = "soft_targets", recorded: str = "big") -> str:
    return TEXT.replace("TEACHER", teacher).replace("TERM", term).replace("RECORDED", recorded)


def mistake(text: str, *, files: bool = False) -> str:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, name="r.yaml", files=files)
    (problem,) = caught.value.problems
    return str(problem)


def test_pytorch_unless_something_else_is_said() -> None:
    _, record, student = parse_recipe(text_with(), files=False).stages
    assert isinstance(record, Record)
    assert isinstance(student, Distill)
    assert (record.runtime, student.runtime) == ("pytorch", "pytorch")
    text = text_with("big\n    runtime: auto", HINT, "big\n    runtime: openvino")
    _, record, student = parse_recipe(text, files=False).stages
    assert (record.runtime, student.runtime) == ("openvino", "auto")  # `auto` leaves layers to PyTorch


def test_an_onnx_file_as_the_teacher() -> None:
    teacher = "{kind: onnx, path: t.onnx, output: scores, layout: channels_last, preprocess: {mean: [0.5], std: [0.2]}}"
    _, record, student = parse_recipe(text_with(teacher, recorded=ONNX), files=False).stages
    assert record.teacher == Onnx(path="t.onnx")
    preprocess = Preprocess(mean=(0.5,), std=(0.2,))
    assert student.teacher == Onnx(path="t.onnx", output="scores", layout="channels_last", preprocess=preprocess)
    assert (student.reads, student.needs) == ((), ())
    assert Distill.model_validate_json(student.model_dump_json(), strict=True) == student


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            text_with("big\n    runtime: openvin"),
            "18: stages.2.runtime: expected 'pytorch', 'auto', 'openvino' or 'onnxruntime', got the text 'openvin'; "
            "nearest: 'openvino'",
        ),
        (
            text_with("big\n    runtime: openvino", HINT),
            "18: stages.2.runtime: openvino gives no layers, and 'hint' reads some of the teacher's; use pytorch",
        ),
        (
            text_with("{kind: average}\n    runtime: auto"),
            "18: stages.2.runtime: is about a network that an earlier stage leaves, and none of those teaches",
        ),
        (
            text_with(f"{ONNX}\n    runtime: auto"),
            "18: stages.2.runtime: is about a network that an earlier stage leaves, and none of those teaches",
        ),
        (
            text_with("answers\n    runtime: auto"),
            "18: stages.2.runtime: 'answers' holds the answers already; give `runtime` to that stage, if at all",
        ),
        (
            text_with(recorded="big\n    runtime: onnxruntime\n    keep: {layers: {hidden1: whole}}"),
            "13: stages.1.runtime: onnxruntime gives no layers, and 'keep.layers' reads some of the teacher's",
        ),
        (
            text_with(recorded=f"{ONNX}\n    keep: {{layers: {{hidden1: whole}}}}"),
            "13: stages.1.keep.layers: onnx has none; only a PyTorch model has layers",
        ),
        (text_with(ONNX, HINT), "17: stages.2.teacher: hint reads layers of its teacher, and onnx has none"),
        (text_with(TABLE, HINT), "17: stages.2.teacher: hint reads layers of its teacher, and table has none"),
        (text_with("{kind: onnx}"), "17: stages.2.teacher.path: is missing"),
        (
            text_with("{kind: onnx, path: t.onnx, layout: nhwc}"),
            "17: stages.2.teacher.layout: expected 'auto', 'channels_first' or 'channels_last', got the text 'nhwc'",
        ),
    ],
)
def test_each_mistake_has_its_line(text: str, expected: str) -> None:
    assert mistake(text).startswith(f"r.yaml:{expected}")


def test_a_file_that_is_missing_or_broken_is_found_before_the_run(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    file = tmp_path / "teacher.onnx"
    file.write_bytes(b"no graph")
    text = text_with(f"{{kind: onnx, path: '{tmp_path / 'taecher.onnx'}'}}")
    assert "there is no ONNX file" in mistake(text, files=True)
    assert "nearest: 'teacher.onnx'" in mistake(text, files=True)
    assert "is not an ONNX file, or a broken one" in mistake(text.replace("taecher", "teacher"), files=True)


def test_a_stage_depends_on_what_is_in_the_file(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")

    def save(value: float) -> None:
        port = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
        tensor = onnx.helper.make_tensor("y", onnx.TensorProto.FLOAT, [1], [value])
        onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [port], [tensor])), str(file))

    file = tmp_path / "t.onnx"
    teacher = Onnx(path=str(file))
    assert teacher.content is None
    contents = []
    for value in (1.0, 1.0, 2.0):
        save(value)
        contents.append(teacher.content)
    assert contents[0] == contents[1] != contents[2]
    stage = parse_recipe(text_with(f"{{kind: onnx, path: '{file}'}}"), files=False).stages[2]
    assert stage.outside == {str(file): contents[2]}
