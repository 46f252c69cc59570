"""From what a recipe says of parts to the pace of every parameter."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from understudy.errors import InputError
from understudy.transfer import Tuning, pace_of


def row(depth: int = 4) -> nn.Module:
    return nn.Sequential(*[nn.Linear(4, 4) for _ in range(depth)])


def weights(given: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in given.items() if name.endswith("weight")}


def test_by_default_all_train_alike() -> None:
    pace = pace_of(Tuning(), row())
    assert (pace.factors, pace.begins, pace.anchors, pace.pull) == ({}, {}, {}, 0.0)


@pytest.mark.parametrize(
    ("freeze", "frozen"),
    [
        (2, {"0", "1"}),
        ("body", {"0", "1", "2"}),
        (("1", "3.weight"), {"1", "3"}),
        (("[02].*",), {"0", "2"}),
    ],
)
def test_what_is_frozen(freeze, frozen) -> None:
    pace = pace_of(Tuning(freeze=freeze), row())
    assert {name.partition(".")[0] for name, factor in pace.factors.items() if factor == 0} == frozen


def test_a_pattern_of_one_parameter_freezes_only_that() -> None:
    assert pace_of(Tuning(freeze=("3.weight",)), row()).factors == {"3.weight": 0.0}


def test_rates_fall_from_the_head_to_the_inputs() -> None:
    pace = pace_of(Tuning(decay=0.5, freeze=1), row())
    assert weights(pace.factors) == {"2.weight": 0.5, "1.weight": 0.25, "0.weight": 0.0}


def test_units_begin_one_after_another_or_all_after_the_head() -> None:
    assert weights(pace_of(Tuning(gradual=0.6), row()).begins) == pytest.approx(
        {"2.weight": 0.2, "1.weight": 0.4, "0.weight": 0.6}
    )
    assert weights(pace_of(Tuning(probe=0.3, freeze=1), row()).begins) == {"2.weight": 0.3, "1.weight": 0.3}


def test_a_pull_leaves_out_what_is_new_or_frozen() -> None:
    network = row()
    pace = pace_of(Tuning(l2_sp=0.1, freeze=1), network, fresh=("3.weight", "3.bias"))
    assert set(pace.anchors) == {"1.weight", "1.bias", "2.weight", "2.bias"}
    with torch.no_grad():
        network[1].weight.zero_()
    assert pace.anchors["1.weight"].abs().sum() > 0  # a copy


def test_one_layer_has_nobody_behind_it() -> None:
    assert pace_of(Tuning(gradual=0.5), row(1)).begins == {}


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (4, "has 4 units, of which one at least must train .*; freeze 3 at most"),
        (("layr1",), "'layr1' matches no parameter"),
        (("0", "weigth"), "'weigth' matches no parameter"),
    ],
)
def test_what_is_not_there_cannot_be_frozen(freeze, message) -> None:
    with pytest.raises(InputError, match=message):
        pace_of(Tuning(freeze=freeze), row())


@pytest.mark.parametrize(
    "given",
    [
        {"probe": 0.1, "gradual": 0.1},
        {"freeze": "body", "decay": 0.5},
        {"freeze": -1},
        {"freeze": "head"},
        {"decay": 0.0},
        {"probe": 1.0},
        {"l2_sp": -1.0},
    ],
)
def test_contradictions_are_refused(given) -> None:
    with pytest.raises(ValidationError):
        Tuning(**given)
