"""The control gets the student's budget, whatever part of the data is labelled."""

import torch

from understudy.engine.training import Optimizer, Training
from understudy.pipeline.stages.distill import same_budget
from understudy.sources.splits import Split


def split(samples: int) -> Split:
    return Split(
        inputs=torch.zeros(samples, 1, 4, 4, dtype=torch.uint8),
        targets=torch.zeros(samples, dtype=torch.int64),
        ids=torch.arange(samples),
        classes=("a", "b"),
        name="train",
    )


def test_fewer_labelled_samples_mean_more_epochs_and_equal_steps() -> None:
    training = Training(epochs=10, batch_size=32, optimizer=Optimizer(lr=0.1), validate_every=2)
    control = same_budget(training, student=split(320), control=split(40))
    assert (control.steps, control.epochs) == (100, None)
    assert control.total_steps(2) == training.total_steps(10)
    # as many validations: every 2 epochs of 10 batches are every 10 epochs of 2 batches
    assert control.validate_every * 2 == training.validate_every * 10


def test_a_fully_labelled_set_changes_nothing() -> None:
    training = Training(epochs=3, optimizer=Optimizer(lr=0.1))
    assert same_budget(training, student=split(50), control=split(50)) is training
