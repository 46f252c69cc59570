"""A model on disk comes back as it was, and nothing else is taken for one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from understudy.errors import InputError, RunError
from understudy.sources import (
    ArtifactModel,
    BuiltinModel,
    Preprocess,
    PythonModel,
    TimmModel,
    TorchvisionModel,
    TransformersModel,
    build_model,
    check_model,
    convert_checkpoint,
    convert_state,
    describe,
    load_artifact,
    preprocess_of,
    save_artifact,
)

IMAGES = torch.rand(3, 1, 16, 16)
CLASSES = ("cat", "dog", "cow", "hen")
MLP = BuiltinModel(name="mlp", arguments={"hidden": [6]}, preprocess=Preprocess(mean=(0.1307,), std=(0.3081,)))
TINY_VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "patch_size": 4,
}


def scores(model: nn.Module, inputs: torch.Tensor = IMAGES) -> torch.Tensor:
    output = model.eval()(inputs)
    return output if isinstance(output, torch.Tensor) else output.logits


@pytest.fixture
def saved(tmp_path) -> Path:
    model = build_model(MLP, classes=4, inputs=IMAGES)
    return save_artifact(tmp_path / "saved", model, spec=MLP, classes=CLASSES, inputs=IMAGES, metadata={"epoch": 3})


@pytest.mark.parametrize(
    "spec",
    [
        MLP,
        BuiltinModel(name="cnn", arguments={"widths": [4, 4]}),
        TorchvisionModel(name="squeezenet1_1"),
        TorchvisionModel(name="mobilenet_v2", small_images=True, arguments={"width_mult": 0.25}),
        TimmModel(name="resnet10t", preprocess=Preprocess(mean=(0.5,), std=(0.5,))),
        TransformersModel(config="vit", arguments=TINY_VIT),
    ],
    ids=describe,
)
def test_it_comes_back_as_it_was(spec, tmp_path):
    inputs = torch.rand(2, 1, 32, 32)
    model = build_model(spec, classes=4, inputs=inputs)
    for name, value in model.state_dict().items():
        if "running" in name:
            value.add_(0.25)  # statistics travel too
    model.train()
    expected_preprocess = preprocess_of(model)
    save_artifact(tmp_path, model, spec=spec, classes=CLASSES, inputs=inputs, metadata={"note": [1, "two"]})
    random = torch.get_rng_state()
    loaded = load_artifact(tmp_path)
    assert torch.equal(torch.get_rng_state(), random)
    torch.testing.assert_close(scores(loaded.module, inputs), scores(model, inputs), rtol=0, atol=0)
    assert (loaded.spec, loaded.classes, loaded.input_shape) == (spec, CLASSES, (1, 32, 32))
    assert loaded.metadata == {"note": [1, "two"]}
    assert preprocess_of(loaded.module) == expected_preprocess
    assert loaded.example(5).shape == (5, 1, 32, 32)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


def test_the_record_says_what_it_is(saved):
    record = json.loads((saved / "model.json").read_text())
    assert record["schema"] == 1
    assert record["classes"] == list(CLASSES)
    assert record["inputs"] == {"shape": [1, 16, 16], "dtype": "float32"}
    assert record["preprocess"] == {"mean": [0.1307], "std": [0.3081]}
    assert record["edits"] == []
    assert len(record["sha256"]) == 64


def test_a_saved_transformers_model_needs_its_folder_no_more(tmp_path):
    build_model(TransformersModel(config="vit", arguments=TINY_VIT), classes=4, inputs=IMAGES).save_pretrained(
        tmp_path / "own"
    )
    spec = TransformersModel(name=str(tmp_path / "own"))
    model = build_model(spec, classes=4, inputs=IMAGES)
    save_artifact(tmp_path / "saved", model, spec=spec, classes=CLASSES, inputs=IMAGES)
    (tmp_path / "own").rename(tmp_path / "moved")
    torch.testing.assert_close(scores(load_artifact(tmp_path / "saved").module), scores(model))


def test_it_is_a_source_of_models_like_any_other(saved, tmp_path):
    spec = ArtifactModel(path=str(saved))
    model = build_model(spec, classes=CLASSES, inputs=IMAGES)
    assert preprocess_of(model) == MLP.preprocess
    assert describe(spec) == "mlp 6"
    again = save_artifact(tmp_path / "again", model, spec=spec, classes=CLASSES, inputs=IMAGES)
    for path in saved.iterdir():
        path.unlink()
    loaded = load_artifact(again / "model.safetensors")
    torch.testing.assert_close(scores(loaded.module), scores(model))
    assert loaded.spec == MLP
    other = Preprocess(mean=(0.0,), std=(1.0,))
    changed = build_model(ArtifactModel(path=str(again), preprocess=other), classes=4, inputs=IMAGES)
    assert preprocess_of(changed) == other


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(inputs))


@pytest.fixture
def tied_spec(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tied_networks", sys.modules[Tied.__module__])
    return PythonModel(target="tied_networks:Tied")


def test_tied_weights_are_written_once_and_stay_tied(tied_spec, tmp_path):
    inputs = torch.rand(2, 4)
    model = Tied()
    save_artifact(tmp_path, model, spec=tied_spec, classes=CLASSES, inputs=inputs)
    loaded = load_artifact(tmp_path).module
    assert loaded.first.weight is loaded.second.weight
    torch.testing.assert_close(loaded(inputs), model(inputs))


def test_weights_that_are_parts_of_one_tensor_are_written_alone(tmp_path):
    model = build_model(MLP, classes=4, inputs=IMAGES)
    whole = torch.rand(12, model.hidden1.in_features)
    model.hidden1.weight, model.head.weight = nn.Parameter(whole[:6]), nn.Parameter(whole[6:10, :6])
    expected = scores(model)
    save_artifact(tmp_path, model, spec=MLP, classes=CLASSES, inputs=IMAGES)
    torch.testing.assert_close(scores(load_artifact(tmp_path).module), expected)
    assert (tmp_path / "model.safetensors").stat().st_size < 4 * 6 * model.hidden1.in_features + 2000


def test_wrappers_and_types(tmp_path):
    model = build_model(MLP, classes=4, inputs=IMAGES)
    save_artifact(tmp_path, torch.compile(model.bfloat16()), spec=MLP, classes=CLASSES, inputs=(1, 16, 16))
    loaded = load_artifact(tmp_path)
    assert loaded.module.head.weight.dtype == torch.bfloat16
    assert loaded.input_shape == (1, 16, 16)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("cat", "cow", "dog", "hen"), r"another order: its output 1 is 'dog', the data's class 1 is 'cow'"),
        (("cat", "dog", "cow"), r"made for 4 classes .* the data have 3 .*not common to both: 'hen'"),
        (("cat", "dog", "cow", "pig"), r"not common to both: 'pig'"),
        (5, r"made for 4 classes, the data have 5"),
    ],
)
def test_other_classes_are_refused(classes, message, saved):
    with pytest.raises(InputError, match=message):
        build_model(ArtifactModel(path=str(saved)), classes=classes, inputs=IMAGES)


def test_other_inputs_are_refused(saved):
    with pytest.raises(InputError, match=r"the model in .* cannot take these inputs \(shape \(N, 1, 8, 8\)\)"):
        build_model(ArtifactModel(path=str(saved)), classes=4, inputs=torch.rand(2, 1, 8, 8))


def truncated(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def altered(folder: Path) -> None:
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def from_the_future(folder: Path) -> None:
    record = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(record | {"schema": 2}))


def edited(folder: Path) -> None:
    record = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(record | {"edits": [{"kind": "prune"}]}))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (truncated, "not a whole safetensors file"),
        (altered, "SHA-256 differ"),
        (from_the_future, "has schema 2, this version reads 1"),
        (edited, "structural edits"),
        (lambda folder: (folder / "model.json").write_text("{"), "is damaged"),
        (lambda folder: (folder / "model.json").unlink(), "is not a saved model"),
        (lambda folder: (folder / "model.safetensors").unlink(), "there is no file"),
    ],
    ids=["truncated", "altered", "future", "edited", "torn", "no record", "no weights"],
)
def test_damage_is_noticed(harm, message, saved):
    harm(saved)
    with pytest.raises(InputError, match=message):
        load_artifact(saved)


def test_a_checkpoint_is_refused_and_converted(tmp_path):
    model = nn.parallel.DataParallel(build_model(MLP, classes=4, inputs=IMAGES))
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, tmp_path / "old.pth")
    with pytest.raises(InputError, match=r"pickled checkpoint.*convert_state\('.*old.pth', '.*old.safetensors'\)"):
        check_model(ArtifactModel(path=str(tmp_path / "old.pth")))

    convert_state(tmp_path / "old.pth", tmp_path / "old.safetensors")
    spec = MLP.model_copy(update={"state": str(tmp_path / "old.safetensors")})
    torch.testing.assert_close(scores(build_model(spec, classes=4, inputs=IMAGES)), scores(model.module))

    loaded = convert_checkpoint(tmp_path / "old.pth", tmp_path / "new", spec=MLP, classes=CLASSES, inputs=IMAGES)
    torch.testing.assert_close(scores(loaded.module), scores(model.module))


@pytest.mark.e2e
def test_a_pickled_model_runs_nothing(tmp_path):
    marker = tmp_path / "ran"
    code = f"""
import os, torch
class Bomb:
    def __reduce__(self):
        return os.system, ("touch {marker}",)
torch.save(Bomb(), "{tmp_path}/bomb.pt")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(InputError, match="holds more than weights"):
        convert_state(tmp_path / "bomb.pt", tmp_path / "weights.safetensors")
    assert not marker.exists()
    torch.load(tmp_path / "bomb.pt", weights_only=False)  # the bomb is real
    assert marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [([1, 2], "holds list"), ({"epoch": 3}, "a dict with 'epoch'"), ({}, "expected a state dict")],
)
def test_what_is_no_state_dict(content, message, tmp_path):
    torch.save(content, tmp_path / "old.pt")
    with pytest.raises(InputError, match=message):
        convert_state(tmp_path / "old.pt", tmp_path / "new.safetensors")


def test_weights_of_another_architecture_are_compared_by_name(tmp_path):
    model = build_model(MLP, classes=4, inputs=IMAGES)
    state = model.state_dict()
    state["haed.weight"] = state.pop("head.weight")
    state["hidden1.bias"] = torch.zeros(9)
    torch.save(state, tmp_path / "old.pt")
    convert_state(tmp_path / "old.pt", tmp_path / "own.safetensors")
    spec = MLP.model_copy(update={"state": str(tmp_path / "own.safetensors")})
    with pytest.raises(InputError) as caught:
        build_model(spec, classes=4, inputs=IMAGES)
    for part in (
        "'head.weight'",
        "'haed.weight'; nearest: 'head.weight'",
        "'hidden1.bias' has shape (9,), the model has (6,)",
    ):
        assert part in str(caught.value)


@pytest.mark.e2e
def test_a_full_disk_leaves_what_was_there(tmp_path):
    """A file-size limit stands in for the full disk: the write fails in the middle."""
    code = f"""
import resource, signal, torch
from understudy.sources import BuiltinModel, build_model, save_artifact
spec = BuiltinModel(name="mlp", arguments={{"hidden": [64]}})
inputs = torch.rand(2, 1, 16, 16)
def save():
    model = build_model(spec, classes=2, inputs=inputs)
    save_artifact({str(tmp_path)!r}, model, spec=spec, classes=("a", "b"), inputs=inputs)
save()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
save()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert "RunError" in done.stderr, done.stderr
    assert "could not be written" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    assert load_artifact(tmp_path).classes == ("a", "b")


def test_metadata_must_be_json(tmp_path):
    model = build_model(MLP, classes=4, inputs=IMAGES)
    with pytest.raises(InputError, match="cannot be written"):
        save_artifact(tmp_path, model, spec=MLP, classes=CLASSES, inputs=IMAGES, metadata={"x": object()})


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(RunError, match="could not be written"):
        save_artifact(tmp_path, build_model(MLP, classes=4, inputs=IMAGES), spec=MLP, classes=CLASSES, inputs=IMAGES)
