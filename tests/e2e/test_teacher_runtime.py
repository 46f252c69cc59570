"""Real runtimes behind a teacher, and an ONNX file that teaches: converted, run, recorded, distilled from."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from understudy import Batch, Classification, InputError, ModuleTeacher, OnnxTeacher, Recorded, fastest_teacher
from understudy.engine.progress import SilentProgress
from understudy.errors import UnderstudyError
from understudy.pipeline.run import run
from understudy.recipe.loading import parse_recipe
from understudy.sources.artifact import load_artifact
from understudy.sources.preprocess import Preprocess, preprocess_inputs
from understudy.teachers.converted import TOLERANCE, disagreement

pytestmark = pytest.mark.e2e
for library in ("onnx", "onnxruntime", "onnxscript", "openvino"):
    pytest.importorskip(library)

RUNTIMES = ("openvino", "onnxruntime")
TASK = Classification()


def images() -> nn.Module:
    """A network with statistics, noise, and a normalisation that is a hook."""
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(32, 5),
    )  # fmt: skip
    module.train()
    for _ in range(3):
        module(torch.randn(16, 3, 12, 10))  # statistics of its own
    return preprocess_inputs(module, Preprocess(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.1)))


class Words(nn.Module):
    """A network of two named inputs whose answer is a mapping, with more in it than the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(30, 8), nn.Linear(8, 4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, object]:
        mask = attention_mask.unsqueeze(-1)
        pooled = (self.words(input_ids) * mask).sum(1) / mask.sum(1)
        return {"kind": "words", "pooled": pooled, "logits": self.head(pooled)}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_answers_like_the_network_for_batches_of_any_size(runtime) -> None:
    module = images()
    teacher = fastest_teacher(module, (torch.rand(16, 3, 12, 10), torch.zeros(16, dtype=torch.long)), runtime=runtime)
    assert (teacher.runtime, module.training) == (runtime, False)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for count in (16, 7, 1, 40):
        inputs = torch.rand(count, 3, 12, 10)
        answer = teacher.observe(Batch(inputs)).logits
        torch.testing.assert_close(answer, module(inputs).detach(), rtol=1e-4, atol=1e-5)
        bare = nn.Sequential(*module)(inputs)  # without the hook
        assert disagreement(bare, answer) > 0.1
    assert answer.dtype == torch.float32
    assert not answer.requires_grad
    with torch.autocast("cpu", dtype=torch.bfloat16):  # the student's precision is not the teacher's
        assert teacher.observe(Batch(inputs)).logits.dtype == torch.float32
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_named_inputs_and_answers_with_more_than_logits(runtime) -> None:
    def inputs(count: int) -> dict[str, Tensor]:
        mask = torch.ones(count, 6, dtype=torch.long)
        mask[:, 4:] = 0
        return {"input_ids": torch.randint(30, (count, 6)), "attention_mask": mask}

    module = Words()
    teacher = fastest_teacher(module, inputs(8), runtime=runtime)
    for count in (8, 3):
        given = inputs(count)
        swapped = dict(reversed(given.items()))
        expected = module(**given)["logits"].detach()
        for each in (given, swapped):
            torch.testing.assert_close(teacher.observe(Batch(each)).logits, expected, rtol=1e-4, atol=1e-5)
    shorter = {name: tensor[:, :5] for name, tensor in given.items()}
    torch.testing.assert_close(teacher.observe(Batch(shorter)).logits, module(**shorter)["logits"].detach())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_example_of_one_sample_is_enough(runtime) -> None:
    module = images()
    teacher = fastest_teacher(module, torch.rand(1, 3, 12, 10), runtime=runtime)
    inputs = torch.rand(5, 3, 12, 10)
    torch.testing.assert_close(teacher.observe(Batch(inputs)).logits, module(inputs).detach(), rtol=1e-4, atol=1e-5)


class Stubborn(nn.Module):
    """A network that leaves what a converter can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        order = sorted(range(len(inputs)), key=lambda row: float(inputs[row, 0]))
        return self.head(inputs[order])[torch.tensor(order).argsort()]


def test_a_network_that_cannot_be_converted_stays_in_pytorch() -> None:
    module, inputs = Stubborn(), torch.randn(8, 4)
    teacher = fastest_teacher(module, inputs)
    assert teacher.runtime == "pytorch"
    assert all(f"{runtime}: " in teacher.note for runtime in RUNTIMES)
    assert "\n" not in teacher.note
    for runtime in RUNTIMES:
        with pytest.raises(InputError, match=r"cannot be converted|otherwise|cannot execute"):
            fastest_teacher(module, inputs, runtime=runtime)


def test_auto_takes_one_of_those_that_it_tried() -> None:
    module, inputs = images(), torch.rand(32, 3, 12, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        teacher = fastest_teacher(module, inputs)
    for name in ("pytorch", "pytorch channels_last fp32", *RUNTIMES):
        assert f"{name} " in teacher.note
    assert disagreement(module(inputs).detach(), teacher.observe(Batch(inputs)).logits) < TOLERANCE


RECIPE = """
version: 1
name: runtimes
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: big
    model: {source: understudy, name: mlp, arguments: {hidden: [32]}, preprocess: {mean: [0.3], std: [0.4]}}
    training: &training {epochs: 1, batch_size: 64, optimizer: {kind: adam, lr: 3e-3}, select: last, execution: plain}
"""
RECORDED = """
  - kind: record
    name: plain
    teacher: big
    views: {shift: 1}
    keep: {dtype: float32}
  - kind: record
    name: answers
    teacher: big
    runtime: openvino
    views: {shift: 1}
    keep: {dtype: float32}
"""
STUDENT = """
  - kind: distill
    name: NAME
    teacher: TEACHER
    runtime: RUNTIME
    control: false
    model: {source: understudy, name: mlp, arguments: {hidden: [16]}}
    objective: [{kind: soft_targets}]
    training: *training
"""


class Told(SilentProgress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def student(name: str, teacher: str = "big", runtime: str = "pytorch") -> str:
    return STUDENT.replace("NAME", name).replace("TEACHER", teacher).replace("RUNTIME", runtime)


def record_of(out: Path, stage: str) -> dict:
    return json.loads((out / "stages" / stage / "seed-0" / "stage.json").read_text())


def weights(out: Path, stage: str) -> Tensor:
    state = load_file(out / "stages" / stage / "seed-0" / "model.safetensors")
    return torch.cat([state[name].flatten() for name in sorted(state)])


def test_a_run_records_and_distills_on_a_runtime(tmp_path: Path) -> None:
    progress, out = Told(), tmp_path / "run"
    text = RECIPE + RECORDED + student("live") + student("quick", runtime="onnxruntime")
    run(parse_recipe(text), out, progress=progress)
    told = [message for message in progress.messages if message.startswith("execution: teacher")]
    assert told == ["execution: teacher big by openvino", "execution: teacher big by onnxruntime"]
    assert record_of(out, "answers")["runtime"]["big"]["runtime"] == "openvino"
    assert record_of(out, "quick")["runtime"]["big"]["runtime"] == "onnxruntime"
    assert "runtime" not in record_of(out, "live")
    folders = [out / "stages" / name / "seed-0" / "recording" for name in ("plain", "answers")]
    by_pytorch, by_openvino = (Recorded(folder) for folder in folders)
    assert by_pytorch.recording.manifest.runtime == "pytorch"
    assert by_openvino.recording.manifest.runtime == "openvino"
    assert by_pytorch.recording.manifest.weights == by_openvino.recording.manifest.weights
    rows = [
        each.recording.rows(each.recording.samples.ids[:1000], 0, ("logits",))["logits"]
        for each in (by_pytorch, by_openvino)
    ]
    assert disagreement(*rows) < TOLERANCE  # on some processors both round alike
    torch.testing.assert_close(weights(out, "live"), weights(out, "quick"), rtol=1e-3, atol=1e-4)


def test_a_stage_that_is_taken_up_again_keeps_to_its_choice(tmp_path: Path) -> None:
    progress, out = Told(), tmp_path / "run"
    recipe = parse_recipe(RECIPE + student("quick", runtime="auto"))
    run(recipe, out, progress=progress)
    place = out / "stages" / "quick" / "seed-0"
    saved = json.loads((place / "runtime.json").read_text())
    saved["chosen"]["big"]["runtime"] = "openvino"
    saved["chosen"]["big"]["timings_ms"] = {"pytorch": 7.5}
    (place / "runtime.json").write_text(json.dumps(saved))
    stage = record_of(out, "quick")
    (place / "stage.json").write_text(json.dumps({**stage, "status": "running"}))
    run(recipe, out, progress=progress)
    told = [message for message in progress.messages if message.startswith("execution: teacher")]
    assert told[-1] == "execution: teacher big by openvino (tried: pytorch 7.5 ms)"


def test_layers_are_read_in_pytorch(tmp_path: Path) -> None:
    progress = Told()
    hint = "[{kind: soft_targets}, {kind: hint, student_layer: hidden1, teacher_layer: hidden1}]"
    text = RECIPE + student("quick", runtime="auto").replace("[{kind: soft_targets}]", hint)
    run(parse_recipe(text), tmp_path / "run", progress=progress)
    assert "execution: teacher pytorch, since its layers are read" in progress.messages
    assert not (tmp_path / "run" / "stages" / "quick" / "seed-0" / "runtime.json").exists()


def exported(out: Path, path: Path) -> nn.Module:
    """The trained network of a run, and its file."""
    module = load_artifact(out / "stages" / "big" / "seed-0").module.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (torch.rand(4, 1, 8, 8),),
            dynamo=True,
            verbose=False,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        )
    program.save(path)
    return module


def test_an_onnx_file_teaches_and_is_recorded(tmp_path: Path) -> None:
    out, file, progress = tmp_path / "run", tmp_path / "teacher.onnx", Told()
    run(parse_recipe(RECIPE), out, progress=progress)
    module = exported(out, file)
    inputs = torch.rand(9, 1, 8, 8)
    teacher = OnnxTeacher(file)
    live = ModuleTeacher(module, task=TASK)
    torch.testing.assert_close(
        teacher.observe(Batch(inputs)).logits, live.observe(Batch(inputs)).logits, rtol=1e-4, atol=1e-4
    )
    onnx = f"{{kind: onnx, path: '{file}'}}"
    recorded = RECORDED.replace("teacher: big", f"teacher: {onnx}").replace("    runtime: openvino\n", "")
    text = RECIPE + recorded + student("live") + student("file", onnx)
    run(parse_recipe(text), out, progress=progress)
    assert any(
        message.startswith("teacher.onnx: from ") and message.endswith("read as logits")
        for message in progress.messages
    )
    torch.testing.assert_close(weights(out, "live"), weights(out, "file"), rtol=1e-3, atol=1e-4)
    manifest = Recorded(out / "stages" / "answers" / "seed-0" / "recording").recording.manifest
    assert (manifest.weights, manifest.runtime) == (teacher.identity, "onnxruntime")
    assert manifest.teacher == str(file)


def test_an_onnx_file_of_other_classes_or_sizes_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    out = tmp_path / "run"
    for name, network in (
        ("classes", nn.Sequential(nn.Flatten(), nn.Linear(64, 7))),
        ("sizes", nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 26 * 26, 10))),
    ):
        shape = (4, 1, 8, 8) if name == "classes" else (4, 3, 28, 28)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(network, (torch.rand(shape),), dynamo=True, verbose=False).save(tmp_path / f"{name}.onnx")
        text = (
            RECIPE[: RECIPE.index("stages:")]
            + "stages:"
            + student(name, f"{{kind: onnx, path: '{tmp_path / name}.onnx'}}").replace(
                "training: *training", RECIPE[RECIPE.index("training: &training") :].strip()
            )
        )
        expected = "has 7 classes and the data 10" if name == "classes" else "the batch has the shape"
        with pytest.raises(UnderstudyError, match=expected):
            run(parse_recipe(text), out / name, progress=SilentProgress())
        assert not list(out.rglob("*.safetensors"))
