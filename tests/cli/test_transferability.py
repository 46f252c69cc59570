"""``understudy transferability``: trained models in the order in which one would begin with them."""

import json

import pytest
import torch

from understudy import CrossEntropy, Distiller, Optimizer, Training
from understudy.batch import Batch
from understudy.cli.main import main
from understudy.engine import SilentProgress, fit
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
