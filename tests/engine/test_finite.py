"""A loss or a gradient that is not finite is noticed, and the right one is blamed."""

import math

import pytest
import torch
from torch import nn

from understudy import CrossEntropy, Distiller, RunError, SoftTargets
from understudy.batch import Batch
from understudy.distiller import Step
from understudy.engine import Optimizer, SilentProgress, Training, fit
from understudy.engine.finite import FiniteWatch
from understudy.knowledge import Knowledge

TRAINING = Training(epochs=1, optimizer=Optimizer(lr=0.1))


def step_with(**terms: float) -> Step:
    values = {name: torch.tensor(value) for name, value in terms.items()}
    return Step(loss=sum(values.values()), terms=values, student=Knowledge(torch.zeros(1, 2)), teacher=None)


def test_a_bad_sample_is_named_with_step_term_and_ids(network, batches):
    batches[3].inputs[5] = math.nan
    distiller = Distiller(network(), network(), CrossEntropy() + SoftTargets(), example=batches[0])
    with pytest.raises(
        RunError, match=r"step 4: the loss is nan, from term 'cross_entropy', 'soft_targets'.*'96', '97'"
    ):
        fit(distiller, batches, TRAINING, progress=SilentProgress())


def test_a_teacher_in_half_precision_is_named_with_the_samples_it_fails_on(network, batches):
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 10)

        def forward(self, inputs):
            scale = torch.where(inputs[:, :1] == 0.25, 1e6, 1.0)  # more than float16 holds
            return (scale * self.layer(inputs)).half()

    batches[3].inputs[[5, 7], 0] = 0.25
    distiller = Distiller(network(), Half(), CrossEntropy() + SoftTargets(), example=batches[0])
    with pytest.raises(RunError) as caught:
        fit(distiller, batches, TRAINING, progress=SilentProgress())
    assert "step 4: the loss is " in str(caught.value)
    assert "because the teacher answers NaN or infinity; the samples of its batch: '101', '103'. " in str(caught.value)
    assert "let it compute in bfloat16 or float32" in str(caught.value)


def test_the_gradient_of_the_step_before_is_blamed(batches):
    class Exploding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 10)
            self.calls = 0

        def forward(self, inputs):
            self.calls += 1
            logits = self.layer(inputs)
            if self.calls == 4:  # one call was the distiller's trial
                logits = logits + 0.0 * (logits.sum() - logits.sum()).sqrt()  # value 0, gradient 0 * inf
            return logits

    distiller = Distiller(Exploding(), None, CrossEntropy(), example=batches[0])
    with pytest.raises(RunError, match=r"step 3: the loss was finite, but its gradient was not.*student.layer.*'64'"):
        fit(distiller, batches, TRAINING, progress=SilentProgress())


def test_a_gradient_that_breaks_the_last_step_is_not_saved(batches, tmp_path):
    class Exploding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 10)
            self.calls = 0

        def forward(self, inputs):
            self.calls += 1
            logits = self.layer(inputs)
            return logits + 0.0 * (logits.sum() - logits.sum()).sqrt() if self.calls == 9 else logits

    distiller = Distiller(Exploding(), None, CrossEntropy(), example=batches[0])
    training = TRAINING.model_copy(update={"checkpoint_every": 3})
    with pytest.raises(RunError, match="step 8: the loss was finite, but its gradient was not"):
        fit(distiller, batches, training, directory=tmp_path, progress=SilentProgress())
    assert [path.name for path in sorted((tmp_path / "checkpoints").glob("*.json"))] == [
        "step-00000003.json",
        "step-00000006.json",
    ]


def test_only_the_term_to_blame_is_named():
    watch = FiniteWatch(nn.Linear(2, 2), deferred=False)
    with pytest.raises(RunError, match=r"from term 'b' \(a = 1, b = inf\)"):
        watch.look(1, step_with(a=1.0, b=math.inf), Batch(inputs=torch.zeros(1)))


def test_on_an_accelerator_it_looks_a_few_steps_late_and_names_the_right_step():
    watch = FiniteWatch(nn.Linear(2, 2), deferred=True)
    for step in range(1, 5):
        watch.look(step, step_with(a=math.nan if step >= 3 else 1.0), Batch(inputs=torch.zeros(1)))
    for step in range(5, 9):
        watch.look(step, step_with(a=math.nan), Batch(inputs=torch.zeros(1)))
    with pytest.raises(RunError, match=r"step 3: .*or from the gradient of step 2"):
        watch.look(9, step_with(a=math.nan), Batch(inputs=torch.zeros(1)))


def test_nothing_is_put_off_past_a_checkpoint():
    watch = FiniteWatch(nn.Linear(2, 2), deferred=True)
    watch.look(1, step_with(a=math.nan), Batch(inputs=torch.zeros(1)))
    with pytest.raises(RunError, match="step 1"):
        watch.check_weights(1)


@pytest.mark.parametrize("broken", ["teacher", "both"])
def test_on_an_accelerator_the_teacher_is_named_when_it_is_noticed(broken):
    watch = FiniteWatch(nn.Linear(2, 2), deferred=True)
    bad = torch.tensor([[0.0, 1.0], [math.nan, 1.0]])
    output = Step(
        loss=torch.tensor(math.nan),
        terms={"soft_targets": torch.tensor(math.nan)},
        student=Knowledge(torch.zeros(2, 2) if broken == "teacher" else bad),
        teacher=Knowledge(bad),
    )
    watch.look(3, output, Batch(inputs=torch.zeros(2, 2), ids=torch.tensor([70, 71])))
    expected = "because the teacher answers NaN or infinity; the samples of its batch: '71'."
    with pytest.raises(RunError, match="step 3: the loss is nan") as caught:
        watch.settle()
    assert (expected in str(caught.value)) is (broken == "teacher")
