"""The description of a training: strict, and its arithmetic."""

import pytest
from pydantic import ValidationError

from understudy.engine import Optimizer, Training
from understudy.schedules import Cosine

SGD = Optimizer(lr=0.1)


@pytest.mark.parametrize("length", [{}, {"epochs": 1, "steps": 5}])
def test_needs_exactly_one_length(length):
    with pytest.raises(ValidationError, match="either epochs or steps"):
        Training(optimizer=SGD, **length)


@pytest.mark.parametrize(
    ("training", "batches", "expected"),
    [
        (Training(epochs=3, optimizer=SGD), 10, 30),
        (Training(epochs=0.5, optimizer=SGD), 10, 5),
        (Training(epochs=0.001, optimizer=SGD), 10, 1),
        (Training(epochs=2, accumulate=4, optimizer=SGD), 10, 6),
        (Training(steps=7, optimizer=SGD), 10, 7),
    ],
)
def test_total_steps(training, batches, expected):
    assert training.total_steps(batches) == expected


def test_warmup_rises_linearly_on_top_of_the_schedule():
    training = Training(steps=100, optimizer=SGD, warmup=0.1, schedule=Cosine(start=1.0, end=1.0))
    assert [round(training.learning_rate_factor(step, 100), 6) for step in (0, 4, 9, 10, 99)] == [0.1, 0.5, 1, 1, 1]


def test_survives_json():
    training = Training(epochs=2, optimizer=Optimizer(kind="adam", lr=1e-3, options={"betas": [0.9, 0.95]}), ema=0.9)
    assert Training.model_validate_json(training.model_dump_json()) == training
