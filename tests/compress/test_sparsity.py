"""Single weights become zeros, and no optimizer brings them back."""

import copy

import pytest
import torch
from torch import nn

from understudy import InputError, sparsify
from understudy.compress.sparsity import gzip_bytes
from understudy.functional import cubic_sparsity


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5))


def zeros(trained: nn.Module) -> list[torch.Tensor]:
    return [trained[index].weight == 0 for index in (0, 4)]


def test_the_smallest_weights_of_all_layers_become_zeros() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    sparse = sparsify(model, 0.6)
    assert sparse.sparsity == pytest.approx(0.6, abs=0.001)
    pruned = torch.cat(
        [model[index].weight[zero].abs() for index, zero in zip((0, 4), zeros(sparse.network), strict=True)]
    )
    kept = torch.cat(
        [model[index].weight[~zero].abs() for index, zero in zip((0, 4), zeros(sparse.network), strict=True)]
    )
    assert pruned.max() <= kept.min()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items()), "the model was changed"
    assert sparse.network.state_dict().keys() == before.keys()
    assert torch.equal(sparse.network[4].bias, model[4].bias)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}), ("AdamW", {}), ("Muon", {})],
)
def test_no_step_of_an_optimizer_revives_them(kind, options) -> None:
    sparse = sparsify(network(), 0.7)
    trained = copy.deepcopy(sparse.network)  # as a stage trains a copy
    dead = zeros(trained)
    assert all(bool(each.any()) for each in dead)
    matrices = [each for each in trained.parameters() if each.ndim == 2 or kind != "Muon"]
    optimizer = getattr(torch.optim, kind)(matrices, lr=0.1, **options)
    before = trained[4].weight.detach().clone()
    for _ in range(4):
        optimizer.zero_grad()
        trained(torch.rand(6, 3, 6, 6)).square().sum().backward()
        optimizer.step()
    if kind == "Muon":  # moves weights that have no gradient; the next forward pass undoes it
        trained(torch.rand(6, 3, 6, 6))
    for now, then in zip(zeros(trained), dead, strict=True):
        assert bool((now >= then).all())
    assert not torch.equal(trained[4].weight, before), "nothing was trained"
    assert not torch.equal(sparse.network[4].weight, trained[4].weight)


def test_more_zeros_keep_those_that_are_there() -> None:
    first = sparsify(network(), 0.5)
    second = sparsify(first.network, 0.75)
    assert second.sparsity == pytest.approx(0.75, abs=0.001)
    assert all(
        bool((more >= fewer).all()) for more, fewer in zip(zeros(second.network), zeros(first.network), strict=True)
    )
    assert len(second.network[0]._forward_pre_hooks) == 1


def test_no_layer_loses_everything_and_named_ones_lose_nothing() -> None:
    model = network()
    with torch.no_grad():
        model[0].weight.mul_(1e-3)
    sparse = sparsify(model, 0.5)
    assert sparse.zeros["0"] == (216 - 22, 216)  # a fifth of the half that all keep
    assert list(sparsify(model, 0.5, keep=["0"]).zeros) == ["4"]


def test_the_schedule_is_the_papers() -> None:
    assert [cubic_sparsity(step / 10, final=0.8) for step in (0, 10)] == [0.0, 0.8]
    assert cubic_sparsity(0.5, final=0.8, initial=0.2) == pytest.approx(0.8 + (0.2 - 0.8) * 0.5**3)


def test_zeros_make_a_file_that_gzip_makes_small(tmp_path) -> None:
    from safetensors.torch import save_file

    model = network()
    for name, each in (("dense", model), ("sparse", sparsify(model, 0.9).network)):
        save_file(each.state_dict(), tmp_path / name)
    assert (tmp_path / "dense").stat().st_size == (tmp_path / "sparse").stat().st_size
    assert gzip_bytes(tmp_path / "sparse") < 0.5 * gzip_bytes(tmp_path / "dense")


def test_wrong_input_is_refused() -> None:
    with pytest.raises(InputError, match="expected a share of zeros above 0 and below 1, got 1"):
        sparsify(network(), 1)
    with pytest.raises(InputError, match="the network has no layer 'frist'"):
        sparsify(network(), 0.5, keep=["frist"])
    with pytest.raises(InputError, match="has no linear layer or convolution"):
        sparsify(nn.Sequential(nn.ReLU()), 0.5)
