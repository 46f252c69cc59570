"""The loop against a hand-written one, and what it promises about modes, selection and what it leaves behind."""

import copy
import io
import json

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import understudy as us
from understudy import CrossEntropy, Distiller, SoftTargets
from understudy.engine import Optimizer, PlainProgress, SilentProgress, Training, fit
from understudy.engine.randomness import random_state, seed_all
from understudy.schedules import Cosine

SGD = Optimizer(lr=0.1, options={"momentum": 0.9})
SILENT = SilentProgress()


def equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_equals_a_hand_written_loop_bit_for_bit(network, batches):
    student, teacher = network(dropout=0.3), network(64)
    twin = copy.deepcopy(student)
    objective = 0.1 * CrossEntropy() + 0.9 * SoftTargets(temperature=4.0)
    training = Training(epochs=3, optimizer=SGD, schedule=Cosine(), clip_norm=0.5, execution="plain")
    fit(Distiller(student, teacher, objective, example=batches[0]), batches, training, seed=7, progress=SILENT)

    distiller = Distiller(twin, teacher, objective, example=batches[0])
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, fused=True)
    step = 0
    for epoch in range(3):
        seed_all(7, epoch, 0)
        for batch in batches:
            optimizer.param_groups[0]["lr"] = 0.1 * Cosine().at(step / 24)
            distiller(batch).loss.backward()
            nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    assert equal(student.state_dict(), twin.state_dict())


def test_accumulation_equals_the_big_batch(network, batches):
    pairs = zip(batches[::2], batches[1::2], strict=True)
    big = [us.Batch(torch.cat([a.inputs, b.inputs]), torch.cat([a.targets, b.targets])) for a, b in pairs]
    big[0].targets[:40] = us.IGNORE_INDEX  # the first of the two parts has no label at all
    batches[0].targets[:] = us.IGNORE_INDEX
    batches[1].targets[:8] = us.IGNORE_INDEX
    student, teacher = network(), network(64)
    twin = copy.deepcopy(student)
    objective = CrossEntropy() + SoftTargets()
    one = fit(
        Distiller(student, teacher, objective, example=big[0]), big, Training(epochs=2, optimizer=SGD), progress=SILENT
    )
    two = fit(
        Distiller(twin, teacher, objective, example=big[0]),
        batches,
        Training(epochs=2, optimizer=SGD, accumulate=2),
        progress=SILENT,
    )
    assert one.steps == two.steps == 8
    for name, tensor in student.state_dict().items():
        torch.testing.assert_close(twin.state_dict()[name], tensor, atol=1e-6, rtol=1e-5)
    assert two.history[-1]["loss"] == pytest.approx(one.history[-1]["loss"], rel=1e-4)


def test_validation_changes_nothing_and_leaves_the_student_training(network, batches, val):
    teacher = network(64, dropout=0.5)
    start = network(dropout=0.5)
    loader = DataLoader(TensorDataset(val[0].inputs, val[0].targets), batch_size=50, shuffle=True)
    finals = []
    for settings in ({}, {"validate_every": 0.25, "select": "last"}):
        student = copy.deepcopy(start)
        distiller = Distiller(student, teacher, CrossEntropy() + SoftTargets(), example=batches[0])
        modes = {"student": [], "teacher": [], "validation": []}
        student.register_forward_pre_hook(
            lambda net, _, seen=modes: seen["student" if torch.is_grad_enabled() else "validation"].append(net.training)
        )
        hook = teacher.register_forward_pre_hook(lambda net, _, seen=modes: seen["teacher"].append(net.training))
        training = Training(epochs=2, optimizer=SGD, **settings)
        fitted = fit(distiller, batches, training, val=loader if settings else None, progress=SILENT)
        hook.remove()
        assert modes["student"] == [True] * 16
        assert modes["teacher"] == [False] * 16
        assert modes["validation"] == [False] * (8 * len(loader) if settings else 0)
        assert len(fitted.history) == (8 if settings else 2)
        finals.append(student.state_dict())
    assert equal(*finals)


def test_the_teacher_and_the_global_generators_are_left_alone(network, batches):
    teacher = network(64, dropout=0.5)
    before = copy.deepcopy(teacher.state_dict())
    distiller = Distiller(network(), teacher, SoftTargets(), example=batches[0])
    state = random_state()
    fit(distiller, batches, Training(steps=3, optimizer=SGD), progress=SILENT)
    assert equal(teacher.state_dict(), before)
    assert random_state() == state


@pytest.mark.parametrize("select", ["best", "last"])
def test_the_student_ends_with_what_was_selected(network, batches, val, select):
    student = network()
    distiller = Distiller(student, None, CrossEntropy(), example=batches[0])
    # The rate grows without end, so that the last epochs are bad ones.
    wild = Training(epochs=6, optimizer=SGD, schedule=us.Linear(start=1.0, end=200.0), select=select)
    fitted = fit(distiller, batches, wild, val=val, progress=SILENT)
    metrics = [record["val"]["accuracy"] for record in fitted.history]
    assert fitted.best_metric == max(metrics)
    assert fitted.history[int(fitted.best_epoch) - 1]["val"]["accuracy"] == max(metrics)
    assert fitted.last_metric == metrics[-1] < fitted.best_metric
    assert not equal(fitted.best_state, fitted.last_state)
    assert equal(student.state_dict(), fitted.best_state if select == "best" else fitted.last_state)


def test_patience_ends_the_training(network, batches, val):
    distiller = Distiller(network(), None, CrossEntropy(), example=batches[0])
    still = Training(epochs=50, optimizer=Optimizer(lr=0.0), patience=3)
    fitted = fit(distiller, batches, still, val=val, progress=SILENT)
    assert [record["epoch"] for record in fitted.history] == [1.0, 2.0, 3.0, 4.0]
    assert fitted.best_epoch == 1.0


def test_the_average_is_what_is_kept(network, batches, val):
    student = network()
    average = {name: tensor.clone() for name, tensor in student.state_dict().items()}

    class Averaging:
        def stepped(self, moment) -> None:
            for name, tensor in moment.distiller.student.state_dict().items():
                if moment.step == 1:
                    average[name] = tensor.clone()
                else:
                    average[name].mul_(0.9).add_(tensor, alpha=0.1)

        def recorded(self, moment, record) -> None: ...

    distiller = Distiller(student, None, CrossEntropy(), example=batches[0])
    training = Training(epochs=2, optimizer=SGD, ema=0.9, select="last")
    fit(distiller, batches, training, progress=SILENT, callbacks=[Averaging()])
    for name, tensor in student.state_dict().items():
        torch.testing.assert_close(tensor, average[name], atol=1e-6, rtol=1e-5)


def test_norms_are_kept_at_every_step(network, batches):
    student = network()
    distiller = Distiller(student, None, CrossEntropy(), example=batches[0])
    fit(distiller, batches, Training(epochs=2, optimizer=SGD, max_norm=0.5), progress=SILENT)
    for layer in (student[0], student[3]):
        assert float(layer.weight.detach().norm(dim=1).max()) <= 0.5 + 1e-5


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_trains_float32_weights(network, batches, precision):
    student = network()
    distiller = Distiller(student, network(64), CrossEntropy() + SoftTargets(), example=batches[0])
    fitted = fit(distiller, batches, Training(epochs=8, optimizer=SGD, precision=precision), progress=SILENT)
    assert {tensor.dtype for tensor in student.state_dict().values()} == {torch.float32}
    assert fitted.history[-1]["loss"] < 0.8 * fitted.history[0]["loss"]
    assert fitted.plan.student.precision == precision


def test_the_student_can_be_saved_before_the_checkpoints_go(network, batches, tmp_path):
    def save(fitted: us.Fitted) -> None:
        seen.append((fitted.steps, len(list((tmp_path / "checkpoints").glob("*.json")))))

    seen = []
    training = Training(epochs=2, optimizer=SGD, checkpoint_every=4)
    distiller = Distiller(network(), None, CrossEntropy(), example=batches[0])
    fit(distiller, batches, training, directory=tmp_path, progress=SILENT, finished=save)
    assert seen == [(16, 2)]
    assert not (tmp_path / "checkpoints").exists()


def test_metrics_are_written_line_by_line_and_checkpoints_are_removed(network, batches, val, tmp_path):
    distiller = Distiller(network(), None, CrossEntropy(), example=batches[0])
    training = Training(epochs=2, optimizer=SGD, checkpoint_every=3, validate_every=0.5)
    fitted = fit(distiller, batches, training, val=val, directory=tmp_path, progress=SILENT)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert records == fitted.history
    assert [record["step"] for record in records] == [4, 8, 12, 16]
    assert set(records[0]) == {
        "step", "epoch", "progress", "loss", "terms", "weights", "lr", "samples_per_s", "seconds", "val"
    }  # fmt: skip
    assert next(iter(records[0]["val"])) == "accuracy"
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_fractions_of_epochs_and_numbers_of_steps(network, batches):
    for settings, steps in (({"epochs": 0.5}, 4), ({"steps": 11}, 11)):
        distiller = Distiller(network(), None, CrossEntropy(), example=batches[0])
        fitted = fit(distiller, batches, Training(optimizer=SGD, **settings), progress=SILENT)
        assert fitted.steps == fitted.history[-1]["step"] == steps
        assert fitted.best_metric is None
        assert fitted.best_state is fitted.last_state


def test_a_callback_can_end_the_training(network, batches):
    class Enough:
        def stepped(self, moment) -> None: ...

        def recorded(self, moment, record) -> bool:
            return moment.step >= 16

    distiller = Distiller(network(), None, CrossEntropy(), example=batches[0])
    assert fit(distiller, batches, Training(epochs=9, optimizer=SGD), progress=SILENT, callbacks=[Enough()]).steps == 16


def test_a_callback_cannot_leave_the_student_in_eval_mode(network, batches):
    modes = []

    class Meddler:
        def stepped(self, moment) -> None:
            moment.distiller.eval()

        def recorded(self, moment, record) -> None:
            moment.distiller.eval()

    student = network()
    distiller = Distiller(student, None, CrossEntropy(), example=batches[0])
    student.register_forward_pre_hook(lambda net, _: modes.append(net.training))
    fit(distiller, batches, Training(epochs=2, optimizer=SGD), progress=SILENT, callbacks=[Meddler()])
    assert modes == [True] * 16


def test_scheduled_weights_follow_the_progress(network, batches):
    seen = []

    class Progress:
        def recorded(self, moment, record) -> None: ...

        def stepped(self, moment) -> None:
            terms = moment.output.terms
            seen.append(float((moment.output.loss.detach() - terms["soft_targets"]) / terms["cross_entropy"]))

    objective = us.Linear(start=0.0, end=1.0) * CrossEntropy() + SoftTargets()
    distiller = Distiller(network(), network(64), objective, example=batches[0])
    fit(distiller, batches, Training(epochs=1, optimizer=SGD), progress=SILENT, callbacks=[Progress()])
    assert seen == pytest.approx([step / 8 for step in range(8)], abs=1e-5)


def test_progress_is_told_and_ended_even_by_an_error(network, batches):
    stream = io.StringIO()
    batches[5].inputs[:] = float("nan")
    distiller = Distiller(network(), None, CrossEntropy(), example=batches[0])
    with pytest.raises(us.RunError):
        fit(distiller, batches, Training(epochs=2, optimizer=SGD), progress=PlainProgress(stream, every=0.0))
    assert "2 epochs, 16 steps" in stream.getvalue()
