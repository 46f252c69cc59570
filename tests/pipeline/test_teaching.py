"""The teacher that a recipe describes, and the snapshots of a training."""

import pytest
import torch
from torch import nn

from conformance.interrupting import Interrupt
from understudy import Batch, Classification, CrossEntropy, Distiller, InputError, ModuleTeacher, Optimizer, Training
from understudy.engine import SilentProgress, fit
from understudy.engine.loop import copied_state
from understudy.pipeline.snapshots import SnapshotTaker, parts_of, snapshot_steps
from understudy.pipeline.starting import check_same_network
from understudy.pipeline.teaching import Average, teacher_of
from understudy.teachers import AverageTeacher, Ensemble

TASK = Classification()
SILENT = SilentProgress()


def networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {name: nn.Linear(4, 3) for name in ("a", "b", "c@2")}


def test_one_teacher_answers_itself_and_several_by_their_weights() -> None:
    made, batch = networks(), Batch(inputs=torch.randn(5, 4))
    members = {name: ModuleTeacher(network, task=TASK) for name, network in made.items()}
    assert teacher_of("b", members, combine="mean") is members["b"]
    answers = {name: network(batch.inputs).softmax(-1).detach() for name, network in made.items()}
    for teaching, expected in (
        (("a", "b"), (answers["a"] + answers["b"]) / 2),
        ({"a": 3.0, "c@2": 1.0}, 0.75 * answers["a"] + 0.25 * answers["c@2"]),
    ):
        several = teacher_of(teaching, members, combine="mean")
        assert isinstance(several, Ensemble)
        assert list(several.members) == list(teaching)
        torch.testing.assert_close(several.observe(batch).logits.softmax(-1), expected)
    surest = teacher_of(("a", "b"), members, combine="confident").observe(batch).logits.exp()
    for row in range(5):
        best = max(("a", "b"), key=lambda name: float(answers[name][row].max()))
        torch.testing.assert_close(surest[row], answers[best][row])


def test_nobody_and_an_average_that_waits_for_its_student() -> None:
    assert teacher_of(None, {}, combine="mean") is None
    waiting = teacher_of(Average(decay=0.5), {}, combine="mean")
    assert waiting == Average(decay=0.5)
    student = nn.Linear(4, 3)
    made = waiting.of(student, TASK)
    assert isinstance(made, AverageTeacher)
    assert made.decay == 0.5
    assert made.module is not student


def test_the_same_network_or_what_differs() -> None:
    check_same_network(nn.Linear(4, 3), nn.Linear(4, 3))
    with pytest.raises(InputError, match=r"'weight' has the shape \(2, 4\) there and \(3, 4\) here"):
        check_same_network(nn.Linear(4, 3), nn.Linear(4, 2))
    with pytest.raises(InputError, match="not in both: 'bias'"):
        check_same_network(nn.Linear(4, 3), nn.Linear(4, 3, bias=False))


def test_when_snapshots_are_due() -> None:
    assert parts_of(None) == ()
    assert parts_of(3) == (1 / 3, 2 / 3, 1.0)
    assert parts_of((0.1, 0.5)) == (0.1, 0.5)
    assert snapshot_steps(parts_of(4), 10) == (2, 5, 8, 10)
    assert snapshot_steps((0.01,), 10) == (1,)


def batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [
        Batch(inputs=torch.randn(8, 4, generator=generator), targets=torch.arange(8) % 3, ids=torch.arange(8))
        for _ in range(3)
    ]


def train(directory=None, *, kept: dict, interrupt: int = 0, ema: float | None = None) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Linear(5, 3))
    training = Training(epochs=4, optimizer=Optimizer(kind="adam", lr=0.1), checkpoint_every=2, ema=ema)
    taker = SnapshotTaker(parts_of(4), lambda name, network: kept.setdefault(name, []).append(copied_state(network)))
    distiller = Distiller(student, None, CrossEntropy(), example=batches()[0])
    watching = [taker, *([Interrupt(interrupt)] if interrupt else [])]
    return fit(distiller, batches(), training, directory=directory, progress=SILENT, callbacks=watching).last_state


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("ema", [None, 0.5])
def test_snapshots_are_what_the_student_was_and_survive_an_interruption(tmp_path, ema) -> None:
    whole: dict[str, list] = {}
    last = train(kept=whole, ema=ema)
    assert list(whole) == ["snapshot-1", "snapshot-2", "snapshot-3", "snapshot-4"]  # steps 3, 6, 9, 12
    assert equal(whole["snapshot-4"][0], last)
    assert not equal(whole["snapshot-1"][0], whole["snapshot-2"][0])
    resumed: dict[str, list] = {}
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, kept=resumed, interrupt=9, ema=ema)  # its last checkpoint is that of step 8
    train(tmp_path, kept=resumed, ema=ema)
    assert {name: len(times) for name, times in resumed.items()} == {
        "snapshot-1": 1,
        "snapshot-2": 1,
        "snapshot-3": 2,
        "snapshot-4": 1,
    }
    assert all(equal(state, whole[name][0]) for name, states in resumed.items() for state in states)
