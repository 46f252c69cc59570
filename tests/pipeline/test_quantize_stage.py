"""The keys of the stage that quantizes."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from understudy.pipeline.stages import Quantize
from understudy.recipe.loading import load_and_join, parse_recipe
from understudy.recipe.problems import RecipeError

RECIPE = """
version: 1
name: eight-bits
task: image_classification
data: {source: sklearn/digits}
stages:
  - kind: train
    name: cnn
    model: {source: understudy, name: cnn, arguments: {widths: [6, 10]}}
    training: &training {epochs: 2, batch_size: 64, optimizer: {kind: adam, lr: 3e-3}}
  - kind: quantize
    name: small
    model: cnn
    KEYS
"""


def of(keys: str) -> Quantize:
    stage = parse_recipe(RECIPE.replace("KEYS", keys)).stages[1]
    assert isinstance(stage, Quantize)
    return stage


def test_what_it_needs_and_what_it_is_when_nothing_is_said() -> None:
    stage = of("keep: [head]")
    assert (stage.needs, stage.asks, stage.network, stage.keep) == (("cnn",), (), "cnn", ("head",))
    assert (stage.calibration, stage.mode, stage.activations) == (300, "static", "symmetric")
    assert stage.max_drop is None
    assert stage.recovery is None


def test_its_recovery_has_a_teacher_of_its_own_if_asked() -> None:
    recovery = {"teacher": "other", "training": {"epochs": 1, "optimizer": {"lr": 0.1}}}
    stage = Quantize(name="small", model="cnn@2", recovery=recovery)
    assert (stage.needs, stage.reads, stage.asks) == (("cnn", "other"), ("cnn@2", "other"), ("other",))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("calibration: 0", "calibration"),
        ("max_drop: -1", "max_drop"),
        ("mode: dynamic", "mode"),
        ("activations: both", "activations"),
        ("mode: weights\n    recovery: {training: *training}", "weights in int8 cannot be trained"),
        ("bits: 4", "bits"),
    ],
)
def test_bad_keys_are_refused_where_they_are(keys: str, message: str) -> None:
    with pytest.raises((RecipeError, ValidationError), match=message):
        of(keys)


def test_an_earlier_model_must_be_there() -> None:
    with pytest.raises(RecipeError, match="there is no stage 'cnm'; nearest: 'cnn'"):
        parse_recipe(RECIPE.replace("KEYS", "keep: []").replace("model: cnn\n", "model: cnm\n"))


def checked(folder: Path, recipe: str) -> str:
    """What `understudy check` says."""
    (folder / "recipe.yaml").write_text(recipe)
    try:
        load_and_join(folder / "recipe.yaml")
    except RecipeError as error:
        return str(error)
    return ""


@pytest.mark.e2e
def test_check_finds_layers_that_are_not_there(tmp_path: Path) -> None:
    found = checked(tmp_path, RECIPE.replace("KEYS", "keep: [heed]"))
    assert "stages.1.keep" in found
    assert "has no layer 'heed'; nearest: 'head'" in found
    hint = "{kind: hint, student_layer: block3, teacher_layer: block1}"
    found = checked(tmp_path, RECIPE.replace("KEYS", f"recovery: {{training: *training, objective: [{hint}]}}"))
    assert "stages.1.recovery.objective.0.student_layer" in found
    assert "student has no layer 'block3'" in found


@pytest.mark.e2e
def test_check_finds_a_model_that_is_quantized_already(tmp_path: Path) -> None:
    found = checked(tmp_path, RECIPE.replace("KEYS", "keep: []\n  - {kind: quantize, name: again, model: small}"))
    assert "stages.2.model" in found
    assert "the model of 'small' is quantized already" in found


@pytest.mark.e2e
def test_check_finds_recurrent_layers(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "recurrent_digits.py").write_text(
        """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.rows, self.head = nn.GRU(8, 6, batch_first=True), nn.Linear(6, classes)

    def forward(self, images):
        return self.head(self.rows(images.squeeze(1))[0][:, -1])
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = "{source: python, target: 'recurrent_digits:Net'}"
    recipe = RECIPE.replace("{source: understudy, name: cnn, arguments: {widths: [6, 10]}}", model)
    said = checked(tmp_path, recipe.replace("KEYS", "keep: []"))
    assert "the recurrent layers 'rows' cannot be quantized in PyTorch" in said
    assert checked(tmp_path, recipe.replace("KEYS", "keep: [rows]")) == ""
