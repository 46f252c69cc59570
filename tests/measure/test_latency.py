"""Timings: what is stated with them, what they must not disturb, and that a pause is seen."""

import itertools
import time

import pytest
import torch
from torch import nn

from understudy.errors import InputError
from understudy.measure import compare_latency, latency, throughput


class Pause(nn.Module):
    """Takes a known time, in eval mode only."""

    def __init__(self, milliseconds: float) -> None:
        super().__init__()
        self.milliseconds = milliseconds
        self.shapes: set[tuple[int, ...]] = set()
        self.gradients: set[bool] = set()

    def forward(self, inputs):
        assert not self.training
        self.shapes.add(tuple(inputs.shape))
        self.gradients.add(torch.is_grad_enabled())
        time.sleep(self.milliseconds / 1000)
        return inputs


def test_a_known_pause_is_measured():
    model = Pause(5.0)
    found = latency(model, torch.rand(2, 3), seconds=0.1)
    assert 5.0 <= found.median_ms < 50.0  # generous: others use this machine too
    assert found.p90_ms >= found.median_ms
    assert found.runs >= 5
    assert (found.batch, found.threads, found.runtime) == (1, torch.get_num_threads(), "torch eager")
    assert (model.shapes, model.gradients) == ({(1, 3)}, {False})


def test_samples_are_repeated_to_the_batch():
    model = Pause(1.0)
    assert latency(model, torch.rand(2, 3), batch=7, seconds=0.01).batch == 7
    assert model.shapes == {(7, 3)}


def test_modes_threads_and_random_state_are_restored():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.BatchNorm1d(3)).train()
    model[1].eval()
    inputs, threads, random = torch.rand(4, 3), torch.get_num_threads(), torch.get_rng_state()
    assert latency(model, inputs, threads=threads + 1, seconds=0.01).threads == threads + 1
    assert torch.get_num_threads() == threads
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert torch.equal(torch.get_rng_state(), random)
    assert int(model[2].num_batches_tracked) == 0
    model.train()(inputs).sum().backward()  # no tensor of inference mode is left behind


def test_several_models_in_turns_give_a_fair_ratio():
    found = compare_latency([("slow", Pause(20.0)), ("fast", Pause(2.0))], torch.rand(1, 3), seconds=0.1)
    assert list(found) == ["slow", "fast"]
    assert 2.0 < found["slow"].median_ms / found["fast"].median_ms < 10.5


def test_turns_alternate():
    order: list[str] = []

    class Marked(Pause):
        def __init__(self, name: str) -> None:
            super().__init__(2.0)
            self.name = name

        def forward(self, inputs):
            order.append(self.name)
            return super().forward(inputs)

    compare_latency([("a", Marked("a")), ("b", Marked("b"))], torch.rand(1, 3), seconds=0.15)
    changes = sum(before != after for before, after in itertools.pairwise(order))
    assert changes > 6


def test_throughput_counts_samples():
    assert 64 / 0.040 < throughput(Pause(4.0), torch.rand(1, 3), batch=64, seconds=0.05) <= 64 / 0.004


def test_a_compiled_model_is_called_so():
    model = torch.compile(nn.Linear(3, 3), backend="eager")
    assert latency(model, torch.rand(1, 3), seconds=0.01).runtime == "torch compiled"


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"batch": 0}, "one or more samples"), ({"threads": 0}, "threads must be one or more")],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        latency(nn.Linear(3, 3), torch.rand(1, 3), **settings)


@pytest.mark.parametrize("models", [[], [("a", nn.Identity()), ("a", nn.Identity())]])
def test_names_must_differ(models):
    with pytest.raises(InputError, match="different names"):
        compare_latency(models, torch.rand(1, 3))


def test_the_slowest_call_in_a_hundred_is_told_where_enough_were_timed():
    many = latency(nn.Identity(), torch.rand(1, 3), seconds=0.05)
    assert many.runs >= 200
    assert many.p99_ms >= many.p90_ms
    few = compare_latency([("a", Pause(10.0))], torch.rand(1, 3), seconds=0.02, calls=200)["a"]
    assert few.p99_ms is None  # ten times the seconds are not enough for 200 calls
    assert 10 <= few.runs < 30
    quick = compare_latency([("a", Pause(0.5))], torch.rand(1, 3), seconds=0.02, calls=60)["a"]
    assert quick.runs >= 60
