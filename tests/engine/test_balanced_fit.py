"""`fit` with weights that adapt: records, checkpoints, resumption, weight decay."""

import json

import pytest
import torch
from torch import nn

import understudy as us
from conformance.interrupting import Interrupt
from understudy.engine import Optimizer, SilentProgress, Training, fit
from understudy.engine.optimizers import build_optimizer

SILENT = SilentProgress()
BALANCES = [us.LearnedUncertainty(), us.GradientNorm(every=3, rate=0.3)]
each_balance = pytest.mark.parametrize("balance", BALANCES, ids=lambda balance: balance.kind)
ADAM = Optimizer(kind="adamw", lr=0.01, weight_decay=0.1)


def distiller_of(network, balance: us.Balance | None, example: us.Batch) -> us.Distiller:
    torch.manual_seed(3)
    student, teacher = network(dropout=0.2), network(32)
    terms = (us.CrossEntropy(), us.Linear(start=1.0, end=2.0) * us.SoftTargets(temperature=4.0))
    hint = us.Hint(student_layer="1", teacher_layer="1", weight=10.0)
    return us.Distiller(student, teacher, us.Objective((*terms, hint), balance), example=example)


@each_balance
def test_an_interrupted_training_ends_with_the_same_bits(network, batches, val, tmp_path, balance):
    training = Training(epochs=3, optimizer=ADAM, checkpoint_every=2, accumulate=2, validate_every=0.5)
    results = []
    for directory, stop in (("whole", None), ("cut", 9)):
        if stop is not None:
            distiller = distiller_of(network, balance, batches[0])
            with pytest.raises(KeyboardInterrupt):
                fit(
                    distiller, batches, training, val=val, directory=tmp_path / directory, progress=SILENT,
                    callbacks=[Interrupt(stop)],
                )  # fmt: skip
        distiller = distiller_of(network, balance, batches[0])
        fitted = fit(distiller, batches, training, val=val, directory=tmp_path / directory, progress=SILENT)
        assert fitted.resumed_from == (8 if stop else None)
        results.append((distiller.state_dict(), [record["weights"] for record in fitted.history]))
    (whole, history), (cut, again) = results
    assert whole.keys() == cut.keys()
    assert all(torch.equal(cut[name], tensor) for name, tensor in whole.items())
    assert again == history


@each_balance
def test_the_weights_of_each_term_are_recorded(network, batches, tmp_path, balance):
    distiller = distiller_of(network, balance, batches[0])
    training = Training(epochs=2, optimizer=ADAM)
    fitted = fit(distiller, batches, training, directory=tmp_path, progress=SILENT)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == fitted.history
    first, last = (line["weights"] for line in lines)
    assert list(first) == ["cross_entropy", "soft_targets", "hint"]
    assert first != last == distiller.objective.weights(1.0)
    factors = [last["cross_entropy"], last["soft_targets"] / 2.0, last["hint"] / 10.0]
    if balance.kind == "gradient_norm":
        assert sum(factors) == pytest.approx(3.0)
        assert distiller.objective.balance.measured.tolist() == [6, 6, 6]  # of 16 passes, the 1st, the 4th …
    assert all(abs(factor - 1.0) > 1e-3 for factor in factors)


def test_without_a_balance_the_weights_are_those_of_the_recipe(network, batches):
    fitted = fit(distiller_of(network, None, batches[0]), batches, Training(epochs=2, optimizer=ADAM), progress=SILENT)
    assert [record["weights"]["soft_targets"] for record in fitted.history] == [1.5, 2.0]
    assert fitted.history[0]["weights"]["hint"] == 10.0


def test_another_balance_is_another_training(network, batches, tmp_path):
    training = Training(epochs=2, optimizer=ADAM, checkpoint_every=2)
    with pytest.raises(KeyboardInterrupt):
        fit(
            distiller_of(network, us.GradientNorm(), batches[0]), batches, training, directory=tmp_path,
            progress=SILENT, callbacks=[Interrupt(5)],
        )  # fmt: skip
    other = distiller_of(network, us.GradientNorm(alpha=0.1), batches[0])
    with pytest.raises(us.InputError, match=r"balance\.alpha was 1\.5, is 0\.1 now"):
        fit(other, batches, training, directory=tmp_path, progress=SILENT)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_weight_decay_does_not_pull_the_log_variances(network, batches, kind):
    distiller = distiller_of(network, us.LearnedUncertainty(), batches[0])
    logs = distiller.objective.balance.log_variances
    optimizer = build_optimizer(Optimizer(kind=kind, lr=0.1, weight_decay=0.5), [distiller])
    with torch.no_grad():
        logs.fill_(1.0)
    for parameter in distiller.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = [layer.weight.clone() for layer in distiller.student if isinstance(layer, nn.Linear)]
    optimizer.step()
    assert logs.tolist() == [1.0, 1.0, 1.0]
    after = [layer.weight for layer in distiller.student if isinstance(layer, nn.Linear)]
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new, 0.95 * old)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(distiller.parameters()))
