"""Which layers lose most, and how many go back to float."""

import copy

import pytest
import torch
from torch import Tensor, nn

from understudy import Classification, InputError
from understudy.compress import quantize, quantize_within, sensitivities
from understudy.compress.sensitivity import _fewest, metric_of

TASK = Classification()


class Outlier(nn.Module):
    """One feature goes through 'fragile' 3000 times as large as the others, which alone decide: eight bits for all of
    them leave nothing of the others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.fragile, self.head = (nn.Linear(4, 4, bias=False) for _ in range(3))
        for layer in (self.first, self.fragile, self.head):
            layer.weight.data = torch.eye(4)
        self.fragile.weight.data[0, 0] = 0.0
        self.head.weight.data *= 4.0

    def forward(self, rows: Tensor) -> Tensor:
        wide = torch.cat([3000 * torch.ones_like(rows[:, :1]), self.first(rows)[:, 1:]], 1)
        return self.head(self.fragile(wide))


def rows() -> tuple[Tensor, Tensor]:
    """Labelled by the largest of the last three features, by none when all are below zero."""
    values = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    values[:, 0] = 0.0
    return values, values.argmax(1)


@pytest.mark.e2e
def test_the_fragile_layer_is_found_and_the_network_is_as_it_was() -> None:
    network, (values, _) = Outlier().eval(), rows()
    before = copy.deepcopy(network.state_dict())
    found = sensitivities(network, [values], task=TASK, samples=40)
    assert next(iter(found)) == "fragile"
    assert set(found) == {"first", "fragile", "head"}
    assert found["fragile"] > 20 * max(found["first"], found["head"])
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert set(sensitivities(network, [values], task=TASK, keep=["head"])) == {"first", "fragile"}


@pytest.mark.e2e
def test_only_the_fragile_layer_goes_back_to_float_and_the_bound_holds() -> None:
    network, (values, labels) = Outlier().eval(), rows()
    validation = [(values, labels)]
    whole = quantize(network, [values], task=TASK).network
    assert metric_of(network, validation, TASK) == 1.0
    assert metric_of(whole, validation, TASK) < 0.9
    made = quantize_within(network, [values], validation, task=TASK, max_drop=2.0)
    assert made.holds
    assert made.quantized.kept == ("fragile",)
    assert made.quantized.layers == ("first", "head")
    assert made.drop == pytest.approx(100 * (1 - metric_of(made.quantized.network, validation, TASK)))
    assert made.tried[0] > 10
    assert made.tried[1] == made.drop <= 2.0
    assert next(iter(made.sensitivities)) == "fragile"


@pytest.mark.e2e
def test_nothing_is_measured_where_all_layers_may_be_rounded() -> None:
    network, (values, labels) = Outlier().eval(), rows()
    made = quantize_within(network, [values], [(values, labels)], task=TASK, max_drop=99.0)
    assert made.holds
    assert made.quantized.kept == ()
    assert made.sensitivities == {}
    assert list(made.tried) == [0]


@pytest.mark.e2e
def test_the_best_is_kept_where_no_bound_holds() -> None:
    network, (values, labels) = Outlier().eval(), rows()
    made = quantize_within(network, [values], [(values, labels)], task=TASK, max_drop=0.0, reference=1.5)
    assert not made.holds
    assert made.drop == min(made.tried.values())
    assert made.drop >= 50.0
    assert max(made.tried) == 3, "it went as far as all layers"


@pytest.mark.e2e
def test_a_bound_needs_labels() -> None:
    values, _ = rows()
    with pytest.raises(InputError, match=r"max_drop is about quality on labelled data.*none of the 60 samples"):
        quantize_within(Outlier().eval(), [values], [values], task=TASK, max_drop=1.0)


@pytest.mark.parametrize("enough", range(1, 14))
def test_the_fewest_layers_are_found_in_few_steps(enough: int) -> None:
    asked = []

    def drop_with(count: int) -> float:
        asked.append(count)
        return 0.3 if count >= enough else 2.0

    assert _fewest(drop_with, 13, 0.5) == enough
    assert len(set(asked)) <= 9


def test_where_no_number_is_enough_the_smallest_drop_wins() -> None:
    drops = {0: 9.0, 1: 4.0, 2: 3.0, 4: 3.0, 5: 7.0}
    assert _fewest(drops.__getitem__, 5, 0.5) == 2
