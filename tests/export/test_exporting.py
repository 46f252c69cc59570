"""A file is whole and proved, or not in its place."""

import json
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from understudy.batch import Batch
from understudy.errors import InputError, RunError
from understudy.export import Exported, export
from understudy.runtimes import open_model
from understudy.sources.preprocess import Preprocess, preprocess_inputs
from understudy.tasks import Classification

TASK = Classification()
CLASSES = ("a", "b", "c")


class Dropping(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return F.dropout(values, 0.5, training=True)


def exported(model: nn.Module, path: Path, kind: str = "torch_export", **others: object) -> Exported:
    inputs = others.pop("example", torch.rand(2, 6))
    return export(model, path, format=kind, example=inputs, task=TASK, classes=CLASSES, **others)


def test_a_file_is_proved_and_says_what_it_is(network, tmp_path) -> None:
    network.train()
    preprocess_inputs(network, Preprocess(mean=(0.5,), std=(0.25,)))
    samples = [(torch.rand(7, 6), torch.randint(3, (7,))) for _ in range(2)]
    made = exported(network, tmp_path, samples=samples, data="a test", licence="MIT", recipe="r" * 16)
    assert made.path == tmp_path / "model.pt2"
    assert made.size_bytes == made.path.stat().st_size
    assert made.proof.proved
    assert (made.proof.samples, made.proof.data) == (14, "a test")
    assert made.card.normalisation == {"mean": (0.5,), "std": (0.25,)}
    assert (made.card.licence, made.card.recipe, made.card.classes) == ("MIT", "r" * 16, CLASSES)
    assert json.loads((tmp_path / "model.pt2.proof.json").read_text())["proved"] is True
    assert network.training
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt2", "model.pt2.proof.json"]
    inputs = torch.rand(4, 6)
    torch.testing.assert_close(open_model(made.path)(inputs), network.eval()(inputs))
    assert open_model(made.path).card == made.card


def test_without_samples_it_is_proved_on_random_inputs(network, tmp_path) -> None:
    proof = exported(network, tmp_path).proof
    assert (proof.data, proof.samples) == ("random inputs", 32)
    assert proof.runtimes[0].quality is None


def test_the_quality_of_the_file_is_that_of_the_network(network, tmp_path) -> None:
    inputs = torch.rand(50, 6)
    targets = network(inputs).argmax(-1)
    targets[:10] = (targets[:10] + 1) % 3
    proof = exported(network, tmp_path, samples=[(inputs, targets)]).proof
    assert proof.quality["accuracy"] == pytest.approx(0.8)
    assert proof.runtimes[0].quality == proof.quality


def test_weights_are_told_apart_by_their_digest(network, tmp_path) -> None:
    first = exported(network, tmp_path / "one").card.weights
    assert exported(network, tmp_path / "two").card.weights == first
    with torch.no_grad():
        network[0].weight[0, 0] += 1
    assert exported(network, tmp_path / "three").card.weights != first


def test_an_unproved_file_does_not_take_the_place_of_a_proved_one(network, tmp_path) -> None:
    before = exported(network, tmp_path / "net.pt2").path.read_bytes()
    with pytest.raises(
        RunError, match=r"net\.unproved\.pt2 does not answer as the network does: aten\.dropout"
    ) as raised:
        exported(nn.Sequential(network, Dropping()), tmp_path / "net.pt2")
    assert "at most 1e-04 is allowed" in str(raised.value)
    assert (tmp_path / "net.pt2").read_bytes() == before
    assert json.loads((tmp_path / "net.pt2.proof.json").read_text())["proved"]
    assert not json.loads((tmp_path / "net.unproved.pt2.proof.json").read_text())["proved"]
    assert (tmp_path / "net.unproved.pt2").is_file()


def test_a_failed_conversion_leaves_nothing(tmp_path, network) -> None:
    before = exported(network, tmp_path).path.read_bytes()

    class Broken(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return values * 2 if values.sum() > 0 else values

    with pytest.raises(InputError):
        exported(nn.Sequential(network, Broken()), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt2", "model.pt2.proof.json"]
    assert (tmp_path / "model.pt2").read_bytes() == before


def test_a_network_that_takes_no_single_sample_is_named(tmp_path, network) -> None:
    class OfBatches(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return F.batch_norm(values, None, None, training=True)

    with pytest.raises(InputError, match=r"the network itself takes no inputs of the shape \(1, 6\)"):
        exported(nn.Sequential(network, OfBatches()), tmp_path)


def test_an_example_that_does_not_fit_is_named(tmp_path, network) -> None:
    with pytest.raises(InputError, match="the network cannot be called with the example"):
        exported(network, tmp_path, example=torch.rand(2, 7))


def test_formats_and_names_are_checked_first(tmp_path, network) -> None:
    with pytest.raises(
        InputError, match="there is no format 'onx'; nearest: 'onnx'; expected one of onnx, onnx_dynamic, tensorrt"
    ):
        exported(network, tmp_path, "onx")
    with pytest.raises(InputError, match=r"model\.onnx ends in \.onnx, a file of the format 'openvino' ends in \.xml"):
        exported(network, tmp_path / "model.onnx", "openvino")


@pytest.mark.parametrize(
    ("kind", "library", "extra"),
    [
        ("onnx", "onnx", "export"),
        ("onnx", "onnxscript", "export"),
        ("openvino", "openvino", "export"),
        ("executorch", "executorch", "phones"),
    ],
)
def test_a_library_that_is_not_installed_is_named(tmp_path, network, monkeypatch, kind, library, extra) -> None:
    for name in [name for name in sys.modules if name == library or name.startswith(f"{library}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=rf"needs {library}, which is not installed.*understudy\[{extra}\]"):
        exported(network, tmp_path, kind)
    assert list(tmp_path.iterdir()) == []


def test_several_inputs_keep_their_names(tmp_path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, words: Tensor, weights: Tensor) -> Tensor:
            return self.head(words * weights)

    model = Two()
    example = {"words": torch.rand(2, 4), "weights": torch.rand(2, 4)}
    path = exported(model, tmp_path, example=example).path
    deployed = open_model(path)
    assert {port.name for port in deployed.session.inputs} == {"words", "weights"}
    batch = Batch(inputs={"weights": torch.rand(3, 4), "words": torch.rand(3, 4)})
    torch.testing.assert_close(TASK.observe(deployed, batch).logits, TASK.observe(model, batch).logits)
