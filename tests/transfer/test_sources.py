"""Trained networks with heads for other classes, and the same ones without what they know."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import understudy as us
from understudy.edits import NewHead
from understudy.errors import InputError
from understudy.sources import BuiltinModel, TorchvisionModel, build_model, load_artifact, save_artifact
from understudy.sources.artifact_record import read_record
from understudy.sources.model_specs import ArtifactModel
from understudy.tasks import Classification
from understudy.transfer import units_of
from understudy.transfer.sources import body_of, heads_of, kept_units, scratch_network, source_network, with_units

TASK = Classification()
IMAGES = torch.rand(4, 3, 32, 32)
TEN, THREE = tuple("abcdefghij"), ("red", "white", "platelet")
SPEC = BuiltinModel(name="resnet", arguments={"widths": [16, 32], "blocks": 1})


@pytest.fixture
def saved(tmp_path) -> ArtifactModel:
    """A network of ten classes that was pruned."""
    network = build_model(SPEC, classes=TEN, inputs=IMAGES)
    pruned = us.prune(network, IMAGES, task=TASK, target=us.Target(macs=0.6))
    save_artifact(tmp_path / "ten", pruned.network, spec=SPEC, classes=TEN, inputs=IMAGES, edits=[pruned.edit])
    return ArtifactModel(path=str(tmp_path / "ten"))


def test_a_pruned_source_gets_a_new_head_and_can_be_saved_and_loaded(saved, tmp_path) -> None:
    source = source_network(saved, classes=THREE, inputs=IMAGES, task=TASK)
    old = load_artifact(saved.path).module.state_dict()
    new = source.network.state_dict()
    assert {
        name for name in new if not torch.equal(new[name], old[name]) if new[name].shape == old[name].shape
    } == set()
    assert set(source.fresh) == {name for name in new if new[name].shape != old[name].shape}
    save_artifact(tmp_path / "three", source.network, spec=saved, classes=THREE, inputs=IMAGES, edits=source.edits)
    again = load_artifact(tmp_path / "three")
    assert again.classes == THREE
    with torch.no_grad():
        assert torch.equal(again.module.eval()(IMAGES), source.network.eval()(IMAGES))


def test_without_what_it_knows_it_is_the_same_network_at_random(saved) -> None:
    source = source_network(saved, classes=THREE, inputs=IMAGES, task=TASK)
    torch.manual_seed(1)
    scratch = scratch_network(saved, source, classes=THREE, inputs=IMAGES)
    shapes = [{name: tensor.shape for name, tensor in each.state_dict().items()} for each in (scratch, source.network)]
    assert shapes[0] == shapes[1]
    for name, parameter in scratch.named_parameters():
        if parameter.ndim > 1:
            assert parameter.std() > 0.01, name
            assert not torch.equal(parameter, dict(source.network.named_parameters())[name])


def test_the_same_classes_keep_their_head_and_other_orders_are_refused(saved) -> None:
    source = source_network(saved, classes=TEN, inputs=IMAGES, task=TASK)
    assert (source.edits, source.fresh) == ((), ())
    assert torch.equal(source.network.eval()(IMAGES), load_artifact(saved.path).module.eval()(IMAGES))
    for head in ("auto", "keep"):
        with pytest.raises(InputError, match="in another order"):
            source_network(saved, classes=TEN[::-1], inputs=IMAGES, task=TASK, head=head)
    with pytest.raises(InputError, match="not common to both"):
        source_network(saved, classes=TEN[:-1], inputs=IMAGES, task=TASK, head="keep")
    assert source_network(saved, classes=TEN[::-1], inputs=IMAGES, task=TASK, head="new").fresh


def test_architectures_of_libraries_have_a_fresh_head(tmp_path) -> None:
    spec = TorchvisionModel(name="resnet18", small_images=True)
    source = source_network(spec, classes=THREE, inputs=IMAGES, task=TASK)
    assert source.fresh == ("fc.weight", "fc.bias")
    assert scratch_network(spec, source, classes=THREE, inputs=IMAGES).fc.out_features == 3
    with pytest.raises(InputError, match="gets a new head"):
        source_network(spec, classes=THREE, inputs=IMAGES, task=TASK, head="keep")


def test_the_head_is_the_layer_that_gives_the_logits_not_one_as_wide() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10), nn.ReLU(), nn.Linear(10, 10))
    assert heads_of(network, IMAGES, TASK) == ("3",)


def test_a_network_that_ends_in_something_else_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10), nn.Softplus())
    with pytest.raises(InputError, match="no layer of Sequential gives its logits"):
        heads_of(network, IMAGES, TASK)


def test_inputs_of_another_shape_are_refused(saved) -> None:
    with pytest.raises(InputError, match="cannot be called with the example"):
        source_network(saved, classes=THREE, inputs=torch.rand(2, 1, 32, 32), task=TASK)


def test_a_network_in_int8_cannot_be_trained_on(saved, tmp_path) -> None:
    network = build_model(SPEC, classes=TEN, inputs=IMAGES)
    quantized = us.quantize(network, [us.Batch(IMAGES)], task=TASK)
    save_artifact(tmp_path / "int8", quantized.network, spec=SPEC, classes=TEN, inputs=IMAGES, edits=[quantized.edit])
    with pytest.raises(InputError, match="computes in int8"):
        source_network(ArtifactModel(path=str(tmp_path / "int8")), classes=THREE, inputs=IMAGES, task=TASK)


def test_an_edit_of_another_network_is_refused() -> None:
    with pytest.raises(InputError, match="does not have"):
        NewHead(layers=("fc",), classes=3).replay(nn.Sequential(nn.Linear(3, 2)), None)
    with pytest.raises(InputError, match="this one is ReLU"):
        NewHead(layers=("0",), classes=3).replay(nn.Sequential(nn.ReLU()), None)


def test_a_new_head_is_of_the_old_ones_kind() -> None:
    old = nn.Sequential(nn.Conv2d(8, 10, 1, bias=False), nn.Linear(4, 10).double())
    new = NewHead(layers=("0", "1"), classes=3).replay(copy.deepcopy(old), None)
    assert new[0].weight.shape == (3, 8, 1, 1)
    assert new[0].bias is None
    assert new[1].weight.shape == (3, 4)
    assert new[1].weight.dtype == torch.float64


def scratch_of(spec, source, seed: int = 5) -> nn.Module:
    torch.manual_seed(seed)
    return scratch_network(spec, source, classes=THREE, inputs=IMAGES)


def with_statistics(saved) -> ArtifactModel:
    """The same saved network with running statistics that no fresh one has."""
    loaded, edits = load_artifact(saved.path), read_record(Path(saved.path)).edits
    for buffer in loaded.module.buffers():
        nn.init.constant_(buffer, 3)
    save_artifact(saved.path, loaded.module, spec=SPEC, classes=TEN, inputs=IMAGES, edits=edits)
    return saved


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_the_first_units_are_the_sources_in_every_bit_and_the_rest_is_the_scratch_network(saved, count) -> None:
    source = source_network(with_statistics(saved), classes=THREE, inputs=IMAGES, task=TASK, head="new")
    known, random = source.network.state_dict(), scratch_of(saved, source).state_dict()
    found = with_units(source, scratch_of(saved, source), count)
    kept = {name for unit in units_of(source.network)[:count] for name in (*unit.parameters, *unit.buffers)}
    assert bool(kept) == bool(count)
    for name, tensor in found.network.state_dict().items():
        assert torch.equal(tensor, (known if name in kept else random)[name]), name
    moved = {name for name, tensor in found.network.named_buffers() if name in known and (tensor == 3).all()}
    assert moved == {name for name in kept if name.rpartition(".")[2].startswith(("running", "num"))}
    assert set(found.fresh) == {name for name, _ in found.network.named_parameters()} - kept
    assert found.edits == source.edits


def test_the_head_is_never_kept_and_the_units_are_named(saved) -> None:
    source = source_network(saved, classes=TEN, inputs=IMAGES, task=TASK, head="new")
    assert [unit.name for unit in body_of(source)] == [unit.name for unit in units_of(source.network)[:-1]]
    with pytest.raises(
        InputError, match=r"units is 4, and Sequential has 3 units in front of its head \('stem"
    ) as caught:
        kept_units(source, 4)
    assert "keep 3 at most" in str(caught.value)


def test_a_network_whose_weights_are_never_random_is_refused(saved) -> None:
    source = source_network(saved, classes=THREE, inputs=IMAGES, task=TASK)
    with pytest.raises(InputError, match="always begins with the same weights"):
        with_units(source, copy.deepcopy(source.network), 1)
