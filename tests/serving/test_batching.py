"""Samples of many clients are computed together, and nobody gets another one's answer."""

import math
import threading
import time
from concurrent.futures import CancelledError

import pytest
import torch
from torch import nn

from understudy.errors import InputError, RunError
from understudy.serving import Predictor, SampleForm
from understudy.serving.batching import Batcher, QueueFullError
from understudy.serving.expected import Expected
from understudy.serving.limits import Limits

FORM = SampleForm((Expected((3,), torch.float32),))


class Gated(nn.Module):
    """Outputs are the inputs; a call waits until it may go on, and notes how many samples it got."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.entered, self.sizes = threading.Event(), threading.Event(), []
        self.go.set()

    def forward(self, inputs):
        self.sizes.append(len(inputs))
        self.entered.set()
        assert self.go.wait(10)
        if (inputs > 100).any():
            raise IndexError("out of range")
        if (inputs > 50).any():
            raise RuntimeError("out of memory")
        return inputs


@pytest.fixture
def gated():
    return Gated()


@pytest.fixture
def batcher(gated, request):
    made = Batcher([Predictor(gated, FORM)], getattr(request, "param", Limits(max_batch=4, queue=6)))
    gated.sizes.clear()
    gated.entered.clear()
    yield made
    gated.go.set()
    made.close()


def held(batcher, gated):
    """A first batch that is being computed, so that the next ones wait."""
    gated.go.clear()
    (first,) = batcher.submit([torch.zeros(3)])
    assert gated.entered.wait(10)
    return first


def sample(best: int) -> torch.Tensor:
    return torch.eye(3)[best] * 9


def test_what_waits_is_computed_together_and_answered_one_by_one(batcher, gated):
    held(batcher, gated)
    futures = [future for place in range(6) for future in batcher.submit([sample(place % 3)])]
    assert len(batcher) == 6
    gated.go.set()
    assert [future.result(10).label for future in futures] == ["0", "1", "2"] * 2
    assert gated.sizes == [1, 4, 2]


def test_each_request_gets_as_many_classes_as_it_asked_for(batcher, gated):
    held(batcher, gated)
    one, three = batcher.submit([sample(1)], top=1) + batcher.submit([sample(1)], top=3)
    gated.go.set()
    assert (len(one.result(10).top), len(three.result(10).top)) == (1, 3)
    assert gated.sizes == [1, 2]


def test_a_full_queue_takes_all_of_a_request_or_nothing(batcher, gated):
    held(batcher, gated)
    batcher.submit([sample(0)] * 5)
    with pytest.raises(QueueFullError, match="5 inputs are waiting already"):
        batcher.submit([sample(0)] * 2)
    batcher.submit([sample(0)])
    assert len(batcher) == 6


def test_what_was_given_up_is_not_computed_and_leaves_its_place(batcher, gated):
    held(batcher, gated)
    kept, lost = batcher.submit([sample(2), sample(1)])
    assert lost.cancel()
    assert len(batcher) == 1
    gated.go.set()
    assert kept.result(10).label == "2"
    assert gated.sizes == [1, 1]
    with pytest.raises(CancelledError):
        lost.result(10)


def test_one_bad_sample_does_not_spoil_its_batch(batcher, gated):
    held(batcher, gated)
    bad = [torch.full((3,), value) for value in (torch.nan, 101.0, 51.0)]
    futures = batcher.submit([sample(1), *bad])
    gated.go.set()
    assert futures[0].result(10).label == "1"
    for future, error, words in zip(
        futures[1:], (InputError, InputError, RunError), ("not finite", "cannot take", "failed on"), strict=True
    ):
        with pytest.raises(error, match=words):
            future.result(10)


@pytest.mark.parametrize("batcher", [Limits(max_batch=2, batch_wait_ms=10_000.0)], indirect=True)
def test_a_batch_waits_for_more_until_it_is_full(batcher, gated):
    (first,) = batcher.submit([sample(0)])
    assert not gated.entered.wait(0.05)
    (second,) = batcher.submit([sample(1)])
    assert (first.result(5).label, second.result(5).label) == ("0", "1")
    assert gated.sizes == [2]


@pytest.mark.parametrize("batcher", [Limits(max_batch=9, batch_wait_ms=30.0)], indirect=True)
def test_a_batch_does_not_wait_longer_than_it_may(batcher, gated):
    begun = time.monotonic()
    (only,) = batcher.submit([sample(0)])
    assert only.result(10).label == "0"
    assert time.monotonic() - begun >= 0.03


def test_two_copies_compute_at_the_same_time():
    networks = [Gated(), Gated()]
    batcher = Batcher([Predictor(network, FORM) for network in networks], Limits(workers=2))
    for network in networks:
        network.go.clear()
        network.entered.clear()
    first = batcher.submit([sample(0)])
    while not any(network.entered.is_set() for network in networks):
        time.sleep(0.001)
    second = batcher.submit([sample(1)])
    assert all(network.entered.wait(10) for network in networks)
    for network in networks:
        network.go.set()
    assert [future.result(10).label for future in first + second] == ["0", "1"]
    batcher.close()


def test_closing_answers_what_waits_and_takes_no_more(batcher, gated):
    held(batcher, gated)
    futures = batcher.submit([sample(2)] * 3)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    gated.go.set()
    closing.join(10)
    assert [future.result(0).label for future in futures] == ["2"] * 3
    with pytest.raises(QueueFullError):
        batcher.submit([sample(0)])


def test_the_answers_of_a_batch_arrive_in_one_call_for_each_who_waits(batcher, gated):
    calls = []

    def call_here(function, *arguments):
        calls.append("here")
        function(*arguments)

    def call_there(function, *arguments):
        calls.append("there")
        function(*arguments)

    held(batcher, gated)
    here = batcher.submit([sample(0), sample(1)], call=call_here)
    there = batcher.submit([sample(2)], call=call_there)
    gated.go.set()
    assert [future.result(10).label for future in (*here, *there)] == ["0", "1", "2"]
    assert sorted(calls) == ["here", "there"]


def test_a_batch_for_a_loop_that_has_ended_does_no_harm(batcher, gated):
    def closed(*_):
        raise RuntimeError("Event loop is closed")

    (lost,) = batcher.submit([sample(0)], call=closed)
    (kept,) = batcher.submit([sample(1)])
    assert kept.result(10).label == "1"
    assert not lost.done()


def test_labels_that_do_not_exclude_each_other_are_all_told():
    """However few of the likeliest ones are asked for."""
    predictor = Predictor(nn.Identity(), FORM, classes=("a", "b", "c"), task="multi_label_classification")
    batcher = Batcher([predictor], Limits())
    try:
        samples = [torch.tensor([2.0, -1.0, 3.0]), torch.tensor([-2.0, -1.0, -3.0])]
        both, none = (future.result(10) for future in batcher.submit(samples, top=1))
    finally:
        batcher.close()
    assert [label for label, _ in both.labels] == ["c", "a"]
    assert both.top == (("c", pytest.approx(1 / (1 + math.exp(-3.0)))),)
    assert (none.labels, none.label) == ((), "b")
    assert none.as_json() == {"labels": [], "top": [{"class": "b", "probability": none.probability}]}
