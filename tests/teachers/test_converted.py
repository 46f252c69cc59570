"""A frozen network that another runtime executes: who answers what, and what is taken of those that agree."""

import copy
import math
import sys
import time

import pytest
import torch
from torch import Tensor, nn

from understudy import (
    Batch,
    Classification,
    Distiller,
    Hint,
    InputError,
    ModuleTeacher,
    Optimizer,
    SoftTargets,
    Training,
    fit,
)
from understudy.distiller import pairs_of
from understudy.doctor import TeacherWatch
from understudy.engine import SilentProgress, teacher_runtime
from understudy.engine.batches import Batches
from understudy.engine.journal import training_identity
from understudy.engine.process import process
from understudy.engine.teacher_runtime import Chosen, choose_runtime, fastest_teacher, teacher_by
from understudy.identity import identity_of
from understudy.recorder import record
from understudy.sources.splits import Split
from understudy.teachers import RuntimeTeacher, Teacher
from understudy.teachers.converted import TOLERANCE, disagreement

TASK = Classification()
TRAINING = Training(epochs=2, optimizer=Optimizer(kind="adam", lr=0.01), execution="plain")


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


def other(module: nn.Module) -> nn.Module:
    """The same network with answers that can be told from its own."""
    copied = copy.deepcopy(module)
    with torch.no_grad():
        copied[3].bias += 1.0
    return copied


def pair(module: nn.Module | None = None) -> tuple[RuntimeTeacher, ModuleTeacher]:
    """A teacher whose other execution answers otherwise, and that one."""
    module = network() if module is None else module
    live, fast = ModuleTeacher(module, task=TASK), ModuleTeacher(other(module), task=TASK)
    return RuntimeTeacher(live, fast, runtime="elsewhere", example=Batch(torch.randn(8, 4))), fast


def batches(count: int = 3) -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [Batch(torch.randn(8, 4, generator=generator), torch.arange(8) % 3) for _ in range(count)]


@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 5)])
def test_disagreement_is_the_farthest_logit_in_units_of_their_spread(shape) -> None:
    first, second = torch.randn(shape), torch.randn(shape)
    rows = first.double().reshape(-1, shape[-1]).tolist()
    squares = [(value - sum(row) / len(row)) ** 2 for row in rows for value in row]
    farthest = max(abs(a - b) for a, b in zip(first.flatten().tolist(), second.flatten().tolist(), strict=True))
    expected = farthest / math.sqrt(sum(squares) / len(squares))
    assert disagreement(first, second) == pytest.approx(expected)
    assert disagreement(first + 100, second + 100) == pytest.approx(expected, rel=1e-3)


def test_disagreement_at_the_edges() -> None:
    logits = torch.randn(6, 4)
    assert disagreement(logits, logits.clone()) == 0.0
    assert disagreement(torch.ones(6, 4), torch.ones(6, 4)) == 0.0
    assert disagreement(torch.ones(6, 4), torch.ones(6, 4) + 1e-6) == math.inf
    assert disagreement(logits, logits[:5]) == math.inf
    broken = logits.clone()
    broken[3, 2] = math.nan
    assert disagreement(logits, broken) == math.inf
    assert disagreement(logits, logits.bfloat16()) > TOLERANCE  # half precision is not what was asked for
    assert disagreement(logits, logits * (1 + 1e-6)) < TOLERANCE


def test_the_other_execution_answers_and_layers_are_the_networks_own() -> None:
    teacher, fast = pair()
    assert isinstance(teacher, Teacher)
    for count in (8, 3, 1):  # the last batch of an epoch is a smaller one
        batch = Batch(torch.randn(count, 4))
        assert torch.equal(teacher.observe(batch).logits, fast.observe(batch).logits)
    batch = batches()[0]
    tapped = teacher.observe(batch, ("0",))
    assert torch.equal(tapped.logits, teacher.live.observe(batch).logits)
    assert torch.equal(tapped.features["0"], teacher.module[0](batch.inputs))


@pytest.mark.parametrize("inputs", [torch.randn(8, 1, 4), torch.randn(8, 4).double()])
def test_samples_of_another_kind_are_the_networks_own_to_answer(inputs: Tensor) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).to(inputs.dtype)
    teacher = RuntimeTeacher(
        ModuleTeacher(module, task=TASK),
        ModuleTeacher(nn.Identity(), task=TASK),
        runtime="elsewhere",
        example=Batch(torch.randn(8, 4)),
    )
    assert torch.equal(teacher.observe(Batch(inputs)).logits, module(inputs))


def test_it_is_the_network_that_is_watched_kept_apart_paired_and_identified() -> None:
    module = network()
    teacher, _ = pair(module)
    assert teacher.module is module
    assert identity_of(teacher) == identity_of(ModuleTeacher(module, task=TASK)) != identity_of(teacher.fast)
    with pytest.raises(InputError, match="teacher and student are the same module"):
        Distiller(module, teacher, SoftTargets(), example=batches()[0])
    paired = pairs_of(network(), teacher, batches()[0], TASK)
    assert paired.classifier == (("3", "3"),)
    watch = TeacherWatch(teacher)
    assert watch.changed() == []
    with torch.no_grad():
        module[0].weight += 1.0
    assert watch.changed() == ["teacher.0.weight"]


def test_a_missing_layer_is_named() -> None:
    teacher, _ = pair()
    with pytest.raises(InputError, match="teacher has no layer 'conv1'"):
        Distiller(network(), teacher, Hint(student_layer="0", teacher_layer="conv1"), example=batches()[0])


def test_it_trains_a_student_and_a_checkpoint_knows_the_runtime() -> None:
    teacher, fast = pair()
    losses = {}
    for name, asked in (("runtime", teacher), ("its own", fast), ("live", teacher.live)):
        torch.manual_seed(0)
        distiller = Distiller(network(), asked, SoftTargets(), example=batches()[0])
        fitted = fit(distiller, batches(), TRAINING, progress=SilentProgress())
        assert (fitted.plan.teacher is None) == (name == "runtime")  # there is nothing left to choose
        losses[name] = distiller(batches()[0]).loss.item()
    assert losses["runtime"] == losses["its own"] != losses["live"]
    names = []
    for asked in (teacher, teacher.live):
        distiller = Distiller(network(), asked, SoftTargets(), example=batches()[0])
        loader = Batches(batches(), task=TASK, current=process())
        names.append(training_identity(distiller, TRAINING, 0, loader, process())["teacher"])
    assert names[0] == f"{names[1]} on elsewhere"


def test_a_recording_names_it_and_goes_on_with_another(tmp_path) -> None:
    teacher, fast = pair()
    inputs = batches(2)
    split = Split(
        name="train",
        inputs=torch.cat([batch.inputs for batch in inputs]),
        targets=torch.arange(16) % 3,
        ids=torch.arange(16),
        classes=("a", "b", "c"),
    )
    first = record(teacher, split, tmp_path / "r", batch_size=8)
    assert first.manifest.runtime == "elsewhere"
    assert first.manifest.weights == identity_of(teacher.live)
    again = record(teacher.live, split, tmp_path / "r", batch_size=8)
    assert again.manifest == first.manifest
    assert record(fast, split, tmp_path / "s", batch_size=8).manifest.runtime == "pytorch"


class Waiting(nn.Module):
    """A network that takes its time."""

    def __init__(self, module: nn.Module, seconds: float) -> None:
        super().__init__()
        self.module, self.seconds = module, seconds

    def forward(self, inputs: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return self.module(inputs)


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch):
    """Choose among these, beside the network as it is, which takes 30 ms."""
    monkeypatch.setattr(teacher_runtime, "_TURNS", (2, 3))

    def among(module: nn.Module, **others) -> ModuleTeacher:
        live = ModuleTeacher(Waiting(module, 0.03), task=TASK)
        monkeypatch.setattr(teacher_runtime, "_ways", lambda live, example: {"pytorch": lambda: live, **others})
        return live

    return among


def answering(module: nn.Module, seconds: float = 0.0):
    return lambda: ModuleTeacher(Waiting(copy.deepcopy(module), seconds), task=TASK)


def test_the_fastest_that_agrees_is_taken(ways) -> None:
    module, batch = network().eval(), batches()[0]

    def failing() -> ModuleTeacher:
        raise InputError("openvino is not installed")

    def breaking() -> ModuleTeacher:
        return ModuleTeacher(nn.Linear(9, 3), task=TASK)

    live = ways(
        module,
        slow=answering(module, 0.06),
        wrong=answering(other(module)),
        quick=answering(module),
        absent=failing,
        broken=breaking,
    )
    teacher, chosen = choose_runtime(live, batch, "auto")
    assert chosen.runtime == teacher.runtime == "quick"
    assert list(chosen.timings_ms) == ["pytorch", "slow", "quick"]
    assert (chosen.timings_ms["pytorch"] > 30, chosen.timings_ms["slow"] > 60) == (True, True)
    assert list(chosen.left_out) == ["wrong", "absent", "broken"]
    assert chosen.left_out["absent"] == "openvino is not installed"
    assert "wrong answers 8 samples otherwise: a logit is " in chosen.left_out["wrong"]
    assert chosen.left_out["broken"].startswith("broken cannot execute the network: addmm: mat1 and mat2 shapes")
    assert teacher.note == chosen.describe()
    assert teacher.note.startswith("quick (tried: pytorch ")
    assert "ms; left out: wrong: wrong answers" in teacher.note
    assert teacher.live is live
    assert Chosen.model_validate_json(chosen.model_dump_json()) == chosen
    assert teacher_by(live, batch, chosen).runtime == "quick"


def test_one_that_only_answers_whole_batches_is_left_out(ways) -> None:
    module, batch = network().eval(), batches()[0]

    class Rigid(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return module(batch.inputs)[: len(inputs)] if len(inputs) == 8 else module(inputs).flip(0)

    live = ways(module, rigid=lambda: ModuleTeacher(Rigid(), task=TASK))
    _, chosen = choose_runtime(live, batch, "auto")
    assert chosen.runtime == "pytorch"
    assert "rigid answers 4 samples otherwise" in chosen.left_out["rigid"]


def test_noise_decides_nothing(ways) -> None:
    assert teacher_runtime._fastest({"pytorch": 10.0, "b": 9.6}) == "pytorch"
    assert teacher_runtime._fastest({"pytorch": 10.0, "b": 9.4, "c": 9.0}) == "b"
    assert teacher_runtime._fastest({"pytorch": 10.0, "b": 9.4, "c": 3.0}) == "c"


def test_one_that_is_named_is_taken_or_an_error(ways) -> None:
    module, batch = network().eval(), batches()[0]
    live = ways(module, openvino=answering(module, 0.02), onnxruntime=answering(other(module)))
    teacher, chosen = choose_runtime(live, batch, "openvino")
    assert (teacher.runtime, chosen.timings_ms) == ("openvino", {})
    with pytest.raises(InputError, match=r"onnxruntime answers 8 samples otherwise: .* allowed are 0\.001"):
        choose_runtime(live, batch, "onnxruntime")
    with pytest.raises(InputError, match="was executed by 'tpu', which is not known here; there are 'pytorch', 'open"):
        teacher_by(live, batch, Chosen(runtime="tpu"))


def test_without_the_libraries_pytorch_is_left_and_a_named_one_says_what_to_install(monkeypatch) -> None:
    for library in ("openvino", "onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, library, None)
    image = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    example = torch.rand(6, 3, 4, 4)
    teacher = fastest_teacher(image, example)
    assert teacher.runtime in ("pytorch", "pytorch channels_last fp32")
    assert teacher.note.count("pip install 'understudy[export]'") == 2
    torch.testing.assert_close(teacher.observe(Batch(example)).logits, image(example))
    for runtime in ("openvino", "onnxruntime"):
        with pytest.raises(InputError, match=rf"needs {runtime}, .* pip install 'understudy\[export\]'"):
            fastest_teacher(image, example, runtime=runtime)


def test_nothing_of_the_network_or_the_random_numbers_changes(monkeypatch) -> None:
    for library in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, library, None)
    image = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(16, 3))
    before = {name: (tensor.clone(), tensor.stride()) for name, tensor in image.state_dict().items()}
    state = torch.get_rng_state()
    fastest_teacher(image, torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in image.state_dict().items():
        assert torch.equal(tensor, before[name][0])
        assert tensor.stride() == before[name][1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_compiled_pytorch_is_tried_and_openvino_is_not() -> None:
    image = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 3)).cuda()
    teacher = fastest_teacher(image, torch.rand(6, 3, 4, 4, device="cuda"))
    assert "compiled" in teacher.note
    assert "openvino: OpenVINO runs on the CPU" in teacher.note
