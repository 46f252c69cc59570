"""Eight bits from a recipe to the report, trained with rounded numbers, interrupted, and within a bound."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from understudy import (
    Distiller,
    Execution,
    Hint,
    ImageClassification,
    Optimizer,
    SoftTargets,
    Training,
    fit,
)
from understudy.compress import quantize
from understudy.compress.sensitivity import metric_of
from understudy.edits import Quantized
from understudy.engine import SilentProgress
from understudy.engine.history import Record
from understudy.engine.loop import Moment
from understudy.engine.optimizers import build_optimizer
from understudy.engine.plan import probe
from understudy.measure import cost
from understudy.pipeline.run import run
from understudy.recipe.loading import parse_recipe
from understudy.sources import build_model, load_artifact, load_data
from understudy.sources.loader import Loader
from understudy.sources.model_specs import BuiltinModel

pytestmark = pytest.mark.e2e

TASK = ImageClassification()
IMAGES, LABELS = torch.rand(32, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 3

RECIPE = """
version: 1
name: eight-bits
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: cnn
    model: {source: understudy, name: cnn, arguments: {widths: [6, 10]}}
    training: {epochs: 8, batch_size: 32, optimizer: {kind: adam, lr: 1e-2}, select: last}
  - {kind: quantize, name: ptq, model: cnn, calibration: 100, keep: [head]}
  - {kind: quantize, name: bounded, model: cnn, calibration: 100, max_drop: 0.5}
  - kind: quantize
    name: qat
    model: cnn
    calibration: 100
    recovery:
      subset: {labels: 100}
      training: {epochs: 2, batch_size: 64, optimizer: {kind: adam, lr: 1e-3}, select: last}
  - kind: quantize
    name: spoilt
    model: cnn
    calibration: 100
    max_drop: 0.5
    recovery: {control: false, training: {epochs: 1, batch_size: 64, optimizer: {kind: sgd, lr: 10}, select: last}}
  - {kind: quantize, name: packed, model: cnn, mode: weights}
  - kind: evaluate
    name: measured
    models: [cnn, ptq, bounded, qat, spoilt, packed]
    memory: false
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return run(parse_recipe(RECIPE), tmp_path_factory.mktemp("runs") / "eight-bits", progress=SilentProgress())


@pytest.fixture(scope="module")
def rows(finished: Path) -> dict[str, dict]:
    measured = json.loads((finished / "stages/measured/seed-0/evaluation.json").read_text())
    return {row["name"]: row for row in measured["rows"]}


def stage(finished: Path, name: str) -> SimpleNamespace:
    folder = finished / "stages" / name / "seed-0"
    record = json.loads((folder / "stage.json").read_text())
    return SimpleNamespace(folder=folder, record=record, **record["quantization"])


def test_a_rounded_model_is_left_on_disk_and_measured(finished: Path, rows: dict[str, dict]) -> None:
    ptq = stage(finished, "ptq")
    assert (ptq.layers, ptq.float, ptq.samples) == (["block1.conv", "block2.conv"], ["head"], 100)
    assert {quantizer.kind for quantizer in quantizers(ptq.folder)} == {"SymmetricQuantizer"}
    assert rows["ptq"]["metrics"]["accuracy"] > rows["cnn"]["metrics"]["accuracy"] - 0.05
    assert rows["ptq"]["params"] == rows["cnn"]["params"], "ranges are no parameters"
    assert rows["ptq"]["macs"] == rows["cnn"]["macs"]


def test_what_pytorch_computes_in_float_is_said_to_be_int8_and_not_timed(rows: dict[str, dict]) -> None:
    for name, words in (
        ("ptq", "cnn 6-10, int8"),
        ("qat control", "cnn 6-10, int8"),
        ("packed", "cnn 6-10, int8 weights"),
    ):
        assert rows[name]["architecture"] == words
    for name, row in rows.items():
        simulated = name not in ("cnn", "packed")
        assert row.get("precision") == ("int8, computed in float" if simulated else None), name
        assert {"bytes", "latency_ms", "throughput"} & row.keys() == (
            set() if simulated else {"bytes", "latency_ms", "throughput"}
        ), name


def test_the_bound_holds_on_the_validation_data_and_the_record_says_how(finished: Path) -> None:
    bounded = stage(finished, "bounded")
    assert bounded.holds
    assert bounded.drop <= 0.5
    assert bounded.float == list(bounded.sensitivities)[: len(bounded.float)]
    assert set(bounded.layers) == {"block1.conv", "block2.conv", "head"} - set(bounded.float)
    assert bounded.tried[str(len(bounded.float))] == bounded.drop
    validation = Loader(load_data(parse_recipe(RECIPE).data, task=TASK).validation, batch_size=500, shuffle=False)
    before, after = (
        metric_of(load_artifact(folder).module, validation, TASK)
        for folder in (finished / "stages/cnn/seed-0", bounded.folder)
    )
    assert 100 * (before - after) == pytest.approx(bounded.drop)


def test_training_with_rounded_numbers_changes_weights_and_ranges_beside_a_control(
    finished: Path, rows: dict[str, dict]
) -> None:
    qat, ptq_network = stage(finished, "qat"), quantized_only(finished)
    trained, control = (load_artifact(folder).module for folder in (qat.folder, qat.folder / "control"))
    for name, tensor in ptq_network.state_dict().items():
        if name.endswith(("conv.weight", "conv2d/0__1.0.scale")):
            assert not torch.equal(tensor, trained.state_dict()[name]), name
            assert not torch.equal(control.state_dict()[name], trained.state_dict()[name]), name
    assert {rows[name]["role"] for name in ("qat", "qat control")} == {"student", "control"}
    assert rows["qat"]["teacher"] == "cnn"
    assert rows["qat"]["metrics"]["accuracy"] > 0.8


def test_a_bound_that_cannot_be_kept_is_told_and_nothing_is_thrown_away(finished: Path) -> None:
    spoilt = stage(finished, "spoilt")
    assert not spoilt.holds
    assert spoilt.drop == min(spoilt.tried.values()) > 0.5
    (finding,) = [each for each in spoilt.record["findings"] if each["check"] == "quality_bound"]
    assert finding["severity"] == "warning"
    assert "more than max_drop allows (0.5)" in finding["message"]
    assert load_artifact(spoilt.folder).metadata["training"]["steps"] > 0


def test_weights_alone_are_smaller_on_disk(finished: Path, rows: dict[str, dict]) -> None:
    packed = stage(finished, "packed")
    assert packed.layers == ["block1.conv", "block2.conv", "head"]
    dtypes = {
        tensor.dtype for name, tensor in load_artifact(packed.folder).module.named_parameters() if ".conv." in name
    }
    assert dtypes == {torch.int8}
    assert rows["packed"]["metrics"]["accuracy"] > rows["cnn"]["metrics"]["accuracy"] - 0.05


def quantizers(folder: Path) -> tuple:
    return Quantized.of(load_artifact(folder).module).quantizers


def quantized_only(finished: Path) -> nn.Module:
    network = load_artifact(finished / "stages/cnn/seed-0").module.eval()
    data = load_data(parse_recipe(RECIPE).data, task=TASK)
    return quantize(network, Loader(data.train, batch_size=32, seed=0), task=TASK, samples=100).network


FRAGILE = """
import torch
from torch import nn

class Fragile(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first, self.fragile = nn.Linear(64, 32), nn.Linear(33, classes)
        nn.init.zeros_(self.fragile.weight[:, 0])

    def forward(self, images):
        features = torch.relu(self.first(images.flatten(1)))
        # While it is calibrated one feature drowns the others, and takes no part in the answer.
        drowning = torch.full_like(features[:, :1], 0.0 if self.training else 30000.0)
        return self.fragile(torch.cat([drowning, features], 1))

def build(classes):
    with torch.no_grad():
        return Fragile(classes)
"""

FRAGILE_RECIPE = """
version: 1
name: fragile
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: net
    model: {source: python, target: "fragile_digits:build"}
    training: {epochs: 4, batch_size: 32, optimizer: {kind: adam, lr: 3e-3}, select: last}
  - kind: quantize
    name: small
    model: net
    calibration: 64
    max_drop: 1.5
    recovery: {control: false, training: {epochs: 1, batch_size: 32, optimizer: {kind: adam, lr: 1e-5}, select: last}}
"""


def test_what_training_cannot_win_back_goes_back_to_float_with_the_trained_weights(tmp_path, monkeypatch) -> None:
    (tmp_path / "fragile_digits.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(tmp_path)
    finished = run(parse_recipe(FRAGILE_RECIPE), tmp_path / "run", progress=SilentProgress())
    small = stage(finished, "small")
    assert small.holds
    assert (small.layers, small.float) == (["first"], ["fragile"])
    assert small.record["training"]["last_metric"] < 0.5
    validation = Loader(load_data(parse_recipe(RECIPE).data, task=TASK).validation, batch_size=500, shuffle=False)
    float_network, left = (load_artifact(folder).module for folder in (finished / "stages/net/seed-0", small.folder))
    lost = metric_of(float_network, validation, TASK) - metric_of(left, validation, TASK)
    assert 100 * lost == pytest.approx(small.drop)
    assert small.drop <= 1.5
    assert not torch.equal(left.fragile.bias, float_network.fragile.bias), "these are the trained weights"
    assert load_artifact(small.folder).metadata["training"]["steps"] == small.record["training"]["steps"]


def float_cnn() -> nn.Module:
    torch.manual_seed(0)
    return build_model(BuiltinModel(name="cnn", arguments={"widths": [4, 6]}), classes=3, inputs=IMAGES).eval()


def student() -> nn.Module:
    return quantize(float_cnn(), [IMAGES], task=TASK).network


def trained(directory: Path | None = None, *, callbacks=(), execution=None, objective=None) -> dict[str, Tensor]:
    objective = objective or SoftTargets(temperature=4.0)
    batches = [(IMAGES[:16], LABELS[:16]), (IMAGES[16:], LABELS[16:])]
    distiller = Distiller(student(), float_cnn(), objective, example=batches[0], task=TASK)
    training = Training(
        steps=8,
        batch_size=16,
        optimizer=Optimizer(kind="adam", lr=1e-3),
        checkpoint_every=3,
        **({} if execution is None else {"execution": execution}),
    )
    fit(distiller, batches, training, directory=directory, progress=SilentProgress(), callbacks=callbacks)
    return distiller.student.state_dict()


class StopError(Exception):
    pass


def test_an_interrupted_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    class StopAt:
        def stepped(self, moment: Moment) -> None:
            if moment.step == 5:
                raise StopError

        def recorded(self, moment: Moment, record: Record) -> None:
            pass

    whole = trained(tmp_path / "whole")
    with pytest.raises(StopError):
        trained(tmp_path / "cut", callbacks=[StopAt()])
    again = trained(tmp_path / "cut")
    assert whole.keys() == again.keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())


def test_layers_inside_can_be_compared_with_the_float_teachers() -> None:
    begin = student().state_dict()
    end = trained(objective=Hint(student_layer="block1", teacher_layer="block1"))
    changed = {name for name in begin if not torch.equal(begin[name], end[name])}
    assert "block1.conv.weight" in changed
    assert "block2.conv.weight" not in changed


def test_images_may_lie_channels_last() -> None:
    one, other = trained(), trained(execution=Execution(memory_format="channels_last"))
    torch.testing.assert_close(one["head.weight"], other["head.weight"], atol=1e-3, rtol=1e-2)


def test_what_cannot_be_compiled_is_executed_without() -> None:
    batch = TASK.batch((IMAGES, LABELS))
    execution = Execution(compile=True, memory_format="contiguous")
    plan = probe(student(), None, task=TASK, batch=lambda: batch, precision="fp32", execution=execution, steps=10_000)
    assert not plan.student.compiled
    assert "contiguous fp32" in plan.student.timings_ms


def test_ranges_are_neither_decayed_nor_counted() -> None:
    network = student()
    decayed, plain = build_optimizer(Optimizer(kind="adamw", lr=1e-3, weight_decay=0.1), [network]).param_groups
    scales = [parameter for name, parameter in network.named_parameters() if "_scale_param" in name]
    assert len(scales) >= 6
    assert all(any(scale is each for each in plain["params"]) for scale in scales)
    assert plain["weight_decay"] == 0.0
    assert any(network.get_parameter("head.weight") is each for each in decayed["params"])
    assert cost(network, IMAGES[:1]).parameters == cost(float_cnn(), IMAGES[:1]).parameters
