"""``understudy compress``: the recipe that it makes, and what it refuses before anything is trained."""

import pytest

from understudy.cli.main import main
from understudy.recipe.loading import parse_recipe
from understudy.sources import BuiltinModel, build_model, save_artifact

CLASSES = tuple(map(str, range(10)))


@pytest.fixture
def saved(tmp_path) -> str:
    spec, shape = BuiltinModel(name="cnn", arguments={"widths": [4]}), (1, 8, 8)
    import torch

    model = build_model(spec, classes=10, inputs=torch.rand(2, *shape))
    return str(save_artifact(tmp_path / "saved", model, spec=spec, classes=CLASSES, inputs=shape))


def planned(capsys, *arguments: str) -> dict:
    assert main(["compress", *arguments, "--data", "sklearn/digits", "--plan"]) == 0
    recipe = parse_recipe(capsys.readouterr().out, name="planned")
    return {stage.name: stage for stage in recipe.stages}


def test_the_plan_is_a_recipe_with_every_candidate(saved, capsys) -> None:
    stages = planned(capsys, saved, "--target", "latency<2ms", "--max-drop", "0.5", "--student", "understudy:mlp:8")
    candidates = ["original", "pruned-50", "pruned-25", "student"]
    assert list(stages)[:4] == candidates
    assert stages["files"].models == tuple(candidates)
    assert stages["int8-files"].models == tuple(f"{name}-int8" for name in candidates)
    assert set(stages["int8-files"].formats) <= {"onnx", "openvino"}
    assert stages["results"].models == (*candidates, *(f"{name}-int8" for name in candidates))
    chosen = stages["deployment"]
    assert (chosen.reference, chosen.max_drop, chosen.target) == ("original", 0.5, "latency<2ms")
    assert chosen.files == ("files", "int8-files")


def test_each_share_is_of_the_original_and_begins_with_the_one_before(saved, capsys) -> None:
    stages = planned(capsys, saved, "--shares", "0.5,0.2", "--epochs", "3", "--no-control")
    assert stages["pruned-50"].target.macs == 0.5
    assert stages["pruned-20"].target.macs == pytest.approx(0.4)
    assert stages["pruned-20"].model == "pruned-50"
    recovery = stages["pruned-20"].recovery
    assert (recovery.teacher, recovery.control, recovery.training.epochs) == ("original", False, 3)


def test_nothing_need_be_pruned(saved, capsys) -> None:
    assert "pruned-50" not in planned(capsys, saved, "--shares", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["understudy:cnn:8"], "random weights, and there is nothing to keep of it"),
        (["nowhere"], "'nowhere'"),
        (["SAVED", "--target", "latency<2kg"], "has the unit 'kg'"),
        (["SAVED", "--shares", "0.25,0.5"], "expected falling shares between 0 and 1"),
        (["SAVED", "--shares", "half"], "--shares 'half': expected numbers"),
        (["SAVED", "--task", "poetry"], "--task 'poetry'"),
        (["SAVED", "--student", "timm"], "'timm'"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_trained(saved, tmp_path, capsys, arguments, message) -> None:
    given = [saved if argument == "SAVED" else argument for argument in arguments]
    assert main(["compress", *given, "--data", "sklearn/digits", "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
