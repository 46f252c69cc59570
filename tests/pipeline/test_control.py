"""The control: the student's budget, whatever part of the data is labelled, and none of what distils."""

from typing import Any, NamedTuple

import torch

from understudy import CrossEntropy, ImageClassification, Objective, SelfDistillation, SoftTargets, TeacherFree
from understudy.engine.training import Optimizer, Training
from understudy.pipeline.control import control_objective, harm, same_budget
from understudy.sources.splits import Split


class Sets(NamedTuple):
    validation: Any


class Told(NamedTuple):
    """As much of a run as is asked."""

    task: ImageClassification
    data: Sets


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


def test_the_control_keeps_what_does_not_distil_and_loses_what_the_student_teaches_itself() -> None:
    supervised, smooth = CrossEntropy(), CrossEntropy(label_smoothing=0.1)
    assert control_objective((smooth, SelfDistillation()), supervised) == Objective.of(smooth)
    assert control_objective((0.1 * smooth, 0.9 * SoftTargets()), supervised) == Objective.of(smooth)
    assert control_objective((SoftTargets(),), supervised) == Objective.of(supervised)
    # a virtual teacher is no other network: what is compared is the term itself
    assert control_objective((supervised, TeacherFree()), supervised) == Objective.of(supervised)


def test_the_terms_that_are_blamed_are_those_that_distil() -> None:
    better, worse = {"last_metric": 0.9}, {"last_metric": 0.2}
    context = Told(task=ImageClassification(), data=Sets(validation=range(1000)))
    (found,) = harm(context, worse, better, terms=(CrossEntropy(), SelfDistillation(), SoftTargets()))
    assert "(self_distillation, soft_targets) hurt" in found.message
    (own,) = harm(context, worse, better, message="learning together hurt", remedy="learn alone")
    assert (own.message, own.remedy) == ("learning together hurt", "learn alone")
    assert "0.2000 against 0.9000" in own.seen
    assert harm(context, better, worse) == harm(context, worse, None) == []
