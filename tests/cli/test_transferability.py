"""``understudy transferability``: trained models in the order in which one would begin with them."""

import json

import pytest
import torch

from understudy import CrossEntropy, Distiller, Optimizer, Training
from understudy.batch import Batch
from understudy.cli.main import main
from understudy.engine import SilentProgress, fit
from understudy.recipe.layering import spread_units
from understudy.recipe.loading import parse_recipe
from understudy.sources import BuiltinModel, build_model, save_artifact
from understudy.sources.data import DataSpec, load_data
from understudy.sources.loader import Loader
from understudy.tasks import Classification

ARGUMENTS = ["--data", "sklearn/digits", "--samples", "200"]


CLASSES = tuple(map(str, range(5)))


def saved(network, spec, inputs, folder) -> str:
    return str(save_artifact(folder, network, spec=spec, classes=CLASSES, inputs=inputs))


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, str]:
    """A network that was trained on half of the digits, one with random weights, and one for other inputs."""
    data = load_data(DataSpec(source="sklearn/digits"), task=Classification())
    batch = next(iter(Loader(data.train, batch_size=len(data.train), shuffle=False)))
    known = batch.targets < 5
    torch.manual_seed(0)
    spec = BuiltinModel(name="mlp", arguments={"hidden": [64, 16]})
    folder = tmp_path_factory.mktemp("sources")
    network = build_model(spec, classes=5, inputs=batch.inputs[:2])
    fresh = saved(network, spec, batch.inputs[:1], folder / "fresh")
    batches = [Batch(batch.inputs[known], batch.targets[known])]
    distiller = Distiller(network, None, CrossEntropy(), example=batches[0])
    fit(distiller, batches, Training(steps=150, optimizer=Optimizer(kind="adam", lr=0.01)), progress=SilentProgress())
    trained = saved(network, spec, batch.inputs[:1], folder / "trained")
    other = torch.rand(2, 20)
    strange = saved(build_model(spec, classes=5, inputs=other), spec, other[:1], folder / "strange")
    return {"trained": trained, "fresh": fresh, "strange": strange}


def test_a_trained_source_stands_before_one_with_random_weights(sources, capsys) -> None:
    trained, fresh = sources["trained"], sources["fresh"]
    assert main(["transferability", fresh, trained, *ARGUMENTS, "--teacher", trained, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in found["sources"]] == [trained, fresh]
    best, other = found["sources"]
    assert best["evidence"] > other["evidence"]
    assert best["probe"] > other["probe"]
    assert best["features"] == 16
    assert best["alignment"] == pytest.approx(1.0, abs=1e-5)
    assert other["alignment"] < 0.95


def test_the_table_names_what_was_left_out(sources, capsys) -> None:
    assert main(["transferability", sources["trained"], sources["strange"], *ARGUMENTS]) == 0
    out = capsys.readouterr().out
    assert "LogME" in out
    assert f"{sources['strange']} was left out: " in out
    assert main(["transferability", sources["strange"], *ARGUMENTS]) == 2


LAYERS = ["--layers", "--data", "sklearn/digits"]


def planned(capsys, *arguments: str) -> dict:
    assert main(["transferability", *arguments, *LAYERS, "--plan"]) == 0
    recipe = parse_recipe(capsys.readouterr().out, name="planned")
    assert recipe.seeds == (0, 1, 2)
    return {stage.name: stage for stage in recipe.stages}


def test_the_recipe_of_layers_trains_every_number_of_units_frozen_and_tuned(sources, capsys) -> None:
    stages = planned(capsys, sources["trained"], "--epochs", "3", "--labels", "0.5")
    *trainings, results = stages.values()
    assert [(each.name, each.units, each.tuning.freeze) for each in trainings] == [
        ("scratch", 0, 0),
        ("frozen-1", 1, 1),
        ("tuned-1", 1, 0),
        ("frozen-2", 2, 2),
        ("tuned-2", 2, 0),
    ]
    assert {(each.training.epochs, each.subset.labels, each.control) for each in trainings} == {(3.0, 0.5, False)}
    assert results.models == tuple(each.name for each in trainings)
    assert (results.latency, results.memory) == (False, False)  # they are one network
    assert list(planned(capsys, sources["trained"], "--units", "2")) == ["scratch", "frozen-2", "tuned-2", "results"]


@pytest.mark.parametrize(("count", "expected"), [(1, (1,)), (8, tuple(range(1, 9))), (9, (1, 2, 3, 4, 6, 7, 8, 9))])
def test_of_many_units_eight_numbers_are_tried_from_the_first_to_the_last(count, expected) -> None:
    assert spread_units(count) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["TRAINED", *LAYERS, "--teacher", "x"], "--teacher is about ranking models, and --layers trains one"),
        (["TRAINED", *LAYERS, "--samples", "2000"], "--samples is about ranking models"),
        (["TRAINED", *LAYERS, "--seed", "0"], "--seed is about ranking models"),
        (["TRAINED", *ARGUMENTS, "--epochs", "10"], "--epochs says how --layers trains; give --layers with it"),
        (["TRAINED", *ARGUMENTS, "--plan"], "--plan says how --layers trains"),
        (["TRAINED", *ARGUMENTS, "--out", "run"], "--out says how --layers trains"),
        (["TRAINED", "TRAINED", *LAYERS], "--layers is about one model, and 2 are named"),
        (["TRAINED", *LAYERS, "--units", "3"], "units is 3, and Sequential has 2 units in front of its head"),
        (["TRAINED", *LAYERS, "--units", "0,1"], "--units '0,1': expected how many units to keep"),
        (["TRAINED", *LAYERS, "--labels", "few"], "--labels 'few': expected a whole number"),
        (["TRAINED", *LAYERS, "--epochs", "0"], "epochs"),
        (["TRAINED", *LAYERS, "--task", "poetry"], "--task 'poetry'"),
        (["understudy:mlp:8", *LAYERS], "is a network with random weights"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_is_trained(
    sources, tmp_path, monkeypatch, capsys, arguments, message
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["transferability", *(sources["trained"] if each == "TRAINED" else each for each in arguments)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing", *ARGUMENTS], "is no directory"),
        (["understudy:mlp:8", *ARGUMENTS], "is a network with random weights"),
        (["understudy:mlp:8", "--data", "no/such/set"], "no/such/set"),
    ],
)
def test_what_is_not_there_is_said(arguments, message, capsys) -> None:
    assert main(["transferability", *arguments]) == 2
    assert message in capsys.readouterr().err
