"""A teacher that follows the student: in our loop it takes part in the plan, the steps and the checkpoints."""

import pytest
import torch

from conformance.interrupting import Interrupt
from understudy import AverageTeacher, Classification, CrossEntropy, Distiller, Optimizer, SoftTargets, Training
from understudy.engine import SilentProgress, fit
from understudy.engine.plan import Execution

SILENT = SilentProgress()
TRAINING = Training(epochs=3, optimizer=Optimizer(kind="adam", lr=0.01), accumulate=2, checkpoint_every=2)


def pair(network, batches, decay=0.9):
    torch.manual_seed(0)
    student = network(dropout=0.3)
    teacher = AverageTeacher(student, decay=decay, task=Classification())
    return Distiller(student, teacher, CrossEntropy() + SoftTargets(), example=batches[0])


def test_a_resumed_training_ends_with_the_same_student_and_average(network, batches, val, tmp_path) -> None:
    whole = pair(network, batches)
    fit(whole, batches, TRAINING, val=val, progress=SILENT)
    with pytest.raises(KeyboardInterrupt):
        fit(
            pair(network, batches),
            batches,
            TRAINING,
            val=val,
            directory=tmp_path,
            progress=SILENT,
            callbacks=[Interrupt(7)],
        )
    again = pair(network, batches)
    assert fit(again, batches, TRAINING, val=val, directory=tmp_path, progress=SILENT).resumed_from == 6
    for one, other in ((whole.student, again.student), (whole.teacher.module, again.teacher.module)):
        expected, found = one.state_dict(), other.state_dict()
        assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    assert again.teacher.steps == whole.teacher.steps


def test_it_counts_steps_not_batches(network, batches) -> None:
    distiller = pair(network, batches)
    seen = []

    class Watching:
        def stepped(self, moment) -> None:
            seen.append((moment.step, moment.distiller.teacher.steps))

        def recorded(self, moment, record) -> None: ...

    fit(distiller, batches, TRAINING, progress=SILENT, callbacks=[Watching()])
    assert seen == [(step, step - 1) for step in range(1, 13)]  # the newest step is taken up with the next question


def test_its_execution_is_chosen_as_that_of_any_network(network, batches) -> None:
    distiller = pair(network, batches)
    pinned = TRAINING.model_copy(update={"execution": Execution(memory_format="contiguous")})
    plan = fit(distiller, batches, pinned, progress=SILENT).plan
    assert plan.teacher is not None
    assert plan.teacher.memory_format == "contiguous"
