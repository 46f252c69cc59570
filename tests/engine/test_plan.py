"""The execution plan: chosen on copies, applied and taken back."""

import pytest
import torch
from torch import nn

from understudy import Batch, CrossEntropy, Distiller, ImageClassification, ModuleTeacher, SoftTargets
from understudy.engine import Execution, Optimizer, SilentProgress, Training, fit
from understudy.engine.plan import Plan, applied, fixed_plan, probe
from understudy.engine.randomness import random_state

TASK = ImageClassification()


def images(count: int = 8) -> Batch:
    return Batch(inputs=torch.rand(count, 3, 16, 16), targets=torch.arange(count) % 4)


def convolutional(width: int = 8, dropout: float = 0.2) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(dropout)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4)),
    )


def probed(student: nn.Module, teacher: ModuleTeacher | None = None, **settings) -> Plan:
    steps = settings.pop("steps", 10_000)
    batch = settings.pop("batch", None) or images()
    return probe(
        student, teacher, task=TASK, batch=lambda: batch, precision="fp32", execution=Execution(**settings), steps=steps
    )


def test_both_networks_are_tried_and_nothing_changes():
    student, teacher = convolutional(), ModuleTeacher(convolutional(16), task=TASK)
    before = [{name: t.clone() for name, t in net.state_dict().items()} for net in (student, teacher.module)]
    batch = images()
    state = random_state()
    plan = probed(student, teacher, batch=batch)
    assert set(plan.student.timings_ms) == {"contiguous fp32", "channels_last fp32"}
    assert set(plan.teacher.timings_ms) == {"contiguous fp32", "channels_last fp32"}
    assert plan.student.timings_ms[plan.student.label] <= plan.student.timings_ms["contiguous fp32"]
    assert "student" in plan.describe()
    assert random_state() == state
    for net, old in zip((student, teacher.module), before, strict=True):
        assert all(torch.equal(old[name], tensor) for name, tensor in net.state_dict().items())
        assert all(parameter.grad is None for parameter in net.parameters())
    assert student.training
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.parametrize(("capability", "tried"), [("AVX512", True), ("AVX2", False)])
def test_a_lower_precision_only_where_it_is_allowed_and_can_be_faster(monkeypatch, capability, tried):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert all("bf16" not in label for label in probed(convolutional()).student.timings_ms)
    allowed = probed(convolutional(), precisions=("bf16",)).student.timings_ms
    assert any("bf16" in label for label in allowed) is tried


def test_a_short_training_tries_as_many_as_pay():
    plan = probed(convolutional(), precisions=("bf16",), compile=True, steps=150)
    assert set(plan.student.timings_ms) == {"contiguous fp32", "channels_last fp32"}


@pytest.mark.parametrize(
    ("net", "settings"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)), {}),
        (convolutional(), {"steps": 20}),
        (convolutional(), {"memory_format": "contiguous"}),
    ],
    ids=["nothing to choose", "too short to pay", "pinned"],
)
def test_nothing_is_tried_where_it_makes_no_sense(net, settings):
    plan = probed(net, **settings)
    assert plan.student.timings_ms == {}
    assert plan.probe_seconds == 0.0


def test_applied_and_taken_back():
    student, teacher = convolutional(), ModuleTeacher(convolutional(), task=TASK)
    plan = fixed_plan("fp32", teacher, Execution(memory_format="channels_last"))
    with applied(plan, student, teacher):
        assert student[0].weight.is_contiguous(memory_format=torch.channels_last)
        assert teacher.module[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert student[0].weight.is_contiguous()
    assert teacher.module[0].weight.is_contiguous()


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_memory_formats_train_to_the_same_weights(kind):
    batches = [images() for _ in range(6)]
    trained = []
    for memory_format in ("contiguous", "channels_last"):
        torch.manual_seed(0)
        student, teacher = convolutional(dropout=0.0), convolutional(16)
        distiller = Distiller(student, teacher, CrossEntropy() + SoftTargets(), example=batches[0], task=TASK)
        training = Training(
            epochs=2, optimizer=Optimizer(kind=kind, lr=0.01), execution=Execution(memory_format=memory_format)
        )
        fitted = fit(distiller, batches, training, progress=SilentProgress())
        assert fitted.plan.student.memory_format == memory_format
        trained.append(student.state_dict())
    for name, tensor in trained[0].items():
        torch.testing.assert_close(trained[1][name], tensor, atol=1e-4 if kind == "sgd" else 1e-3, rtol=1e-3)


@pytest.mark.e2e
def test_compiled_gives_the_same_and_leaves_a_plain_module():
    torch.manual_seed(0)
    batches = [Batch(inputs=torch.rand(4, 3), targets=torch.arange(4) % 2) for _ in range(200)]
    student = nn.Linear(3, 2)
    distiller = Distiller(student, None, CrossEntropy(), example=batches[0])
    training = Training(epochs=1, optimizer=Optimizer(lr=0.1), execution=Execution(compile=True))
    plan = fit(distiller, batches, training, progress=SilentProgress()).plan
    assert set(plan.student.timings_ms) == {"unchanged fp32", "unchanged fp32 compiled"}
    assert student._compiled_call_impl is None


@pytest.mark.parametrize(("slowness", "warned"), [(10.0, True), (0.5, False)])
def test_a_precision_that_was_asked_for_is_kept_and_its_price_said(monkeypatch, slowness, warned):
    """Processors without bfloat16 emulate it, ten times slower than float32."""
    monkeypatch.setattr(
        "understudy.engine.plan._time", lambda work, choice, deadline: slowness if choice.precision == "bf16" else 1.0
    )
    plan = probe(
        convolutional(),
        None,
        task=TASK,
        batch=images,
        precision="bf16",
        execution=Execution(),
        steps=10_000,
    )
    assert plan.student.precision == "bf16"
    assert plan.student.timings_ms["contiguous fp32"] == 1.0
    assert ("bf16 takes 10.0 times as long as fp32 here" in plan.describe()) is warned
    assert ("{precisions: [bf16]}" in plan.describe()) is warned
