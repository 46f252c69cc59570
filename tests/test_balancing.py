"""Weights that adapt, against their formulas written with loops, and on toys whose gradients are known."""

import copy
import math
from typing import ClassVar, Literal, final

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import understudy as us
from conformance import balanced
from understudy.balancing import AnyBalance
from understudy.doctor.balance import term_balance
from understudy.engine.randomness import undisturbed

DOUBLE = torch.float64
BALANCES = [us.LearnedUncertainty(), us.GradientNorm(alpha=0.5, every=1, rate=0.5)]
each_balance = pytest.mark.parametrize("balance", BALANCES, ids=lambda balance: balance.kind)


@final
class Pull(us.Method):
    """Draws all logits to a number: ``scale / 2`` times the mean square of what is missing, and what cannot be had."""

    paper: ClassVar[str] = "none"
    needs_teacher: ClassVar[bool] = False

    kind: Literal["pull"] = "pull"
    scale: float = 1.0
    goal: float = 0.0
    floor: float = 0.0

    def loss(self, student: us.Knowledge, teacher: us.Knowledge, batch: us.Batch) -> Tensor:
        return self.scale / 2 * ((student.logits - self.goal).square().mean() + self.floor)


def network(hidden: int = 4, seed: int = 1) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, hidden), nn.Tanh(), nn.Linear(hidden, 3))


def data(count: int = 8) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 5), torch.randint(3, (count,))


def two_scales(balance: us.Balance | None, *, first: float = 1.0, second: float = 1000.0) -> us.Objective:
    terms = (Pull(name="small", goal=1.0, weight=first), Pull(name="big", goal=-1.0, scale=1000.0, weight=second))
    return us.Objective(terms, balance)


def norms(distiller: us.Distiller, batch: object) -> dict[str, float]:
    """Length of each term's gradient on the last layer's weight, by the term's weight now."""
    student, weight = distiller.student, distiller.student[-1].weight
    weights, found = distiller.objective.weights(), {}
    for term in distiller.objective.objective.terms:
        value = term.loss(us.Knowledge(logits=student(batch[0])), None, None)
        (gradient,) = torch.autograd.grad(value, weight)
        found[term.label] = weights[term.label] * float(gradient.norm())
    return found


def test_learned_uncertainty_is_its_formula_and_trains_its_variances() -> None:
    balancer = us.LearnedUncertainty().build(3).double()
    logs = [0.3, -1.2, 2.0]
    with torch.no_grad():
        balancer.log_variances.copy_(torch.tensor(logs, dtype=DOUBLE))
    values = [torch.tensor(value, dtype=DOUBLE, requires_grad=True) for value in (0.7, 3.0, 40.0)]
    weights = [0.5, 2.0, 0.0]
    loss = balancer(values, weights)
    loss.backward()
    expected, slopes = 0.0, []
    for value, weight, log in zip((0.7, 3.0, 40.0), weights, logs, strict=True):
        variance = math.exp(log)
        expected += weight * (value / variance + math.log(math.sqrt(variance)))
        slopes.append(weight * (0.5 - value / variance))
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert balancer.log_variances.grad.tolist() == pytest.approx(slopes, rel=1e-12)
    assert [float(value.grad) for value in values] == pytest.approx(
        [weight / math.exp(log) for weight, log in zip(weights, logs, strict=True)]
    )
    assert balancer.factors().tolist() == pytest.approx([math.exp(-log) for log in logs])


@each_balance
def test_at_the_start_it_is_the_plain_sum_in_eval_mode(balance) -> None:
    batch = data()
    distiller, plain = (
        us.Distiller(network(), None, two_scales(each), example=batch).eval() for each in (balance, None)
    )
    torch.testing.assert_close(distiller(batch).loss, plain(batch).loss)
    assert distiller.objective.weights() == plain.objective.weights() == {"small": 1.0, "big": 1000.0}


def test_constant_terms_end_at_half_their_weight_each_and_never_beyond_the_limit() -> None:
    balancer = us.LearnedUncertainty(limit=50.0).build(4)
    values = [torch.tensor(value) for value in (0.25, 10.0, 0.0, 1e6)]
    optimizer = torch.optim.SGD(balancer.parameters(), lr=0.5)
    for _ in range(300):
        optimizer.zero_grad()
        balancer(values, [1.0, 3.0, 1.0, 1.0]).backward()
        optimizer.step()
    balancer(values, [1.0] * 4)
    assert balancer.factors().tolist() == pytest.approx([1 / 0.5, 1 / 20, 50.0, 1 / 50], rel=1e-3)


def by_hand(values: list[list[float]], lengths: list[list[float]], balance: us.GradientNorm) -> list[list[float]]:
    """The factors of each pass, with loops."""
    count, factors, history = len(values[0]), [1.0] * len(values[0]), []
    mean_value, mean_length, first, seen = [0.0] * count, [0.0] * count, [0.0] * count, [0] * count
    for number, (now, long) in enumerate(zip(values, lengths, strict=True)):
        if number % balance.every == 0:
            for i in range(count):
                if long[i] == 0.0:
                    continue
                seen[i] += 1
                if seen[i] == 1:
                    first[i] = now[i]
                part = max(1 / seen[i], balance.rate)
                mean_value[i] = (1 - part) * mean_value[i] + part * now[i]
                mean_length[i] = (1 - part) * mean_length[i] + part * long[i]
            known = [i for i in range(count) if seen[i]]
            progress = {i: mean_value[i] / first[i] for i in known}
            average = sum(progress.values()) / max(len(known), 1)
            wanted = {i: (progress[i] / average) ** balance.alpha / mean_length[i] for i in known}
            for i in known:
                factors[i] = len(known) * wanted[i] / sum(wanted.values())
        history.append(list(factors))
    return history


@pytest.mark.parametrize(
    "balance", [us.GradientNorm(every=1, rate=0.3), us.GradientNorm(every=3, alpha=0.0), us.GradientNorm(every=2)]
)
def test_gradient_norm_is_its_formula_with_known_gradients(balance) -> None:
    """Terms a |p|²/2, b·p + 9 and c x⁴ of a point p = (x, y), with gradients a p, b and (4 c x³, 0)."""
    student = nn.Linear(2, 1, bias=False).double()
    point = student.weight
    slope = torch.tensor([[0.3, -0.4]], dtype=DOUBLE)

    def terms() -> list[Tensor]:
        return [5.0 * point.square().sum() / 2, (slope * point).sum() + 9.0, 0.1 * point[0, 0] ** 4]

    balancer = balance.build(3).double()
    balancer.begin(student, dict(zip("abc", terms(), strict=True)))
    path = [(0.0, 0.2), (0.0, 1.0), (1.0, -2.0), (0.5, 0.5), (2.0, 0.1), (0.3, 3.0), (1.5, 1.5)]
    values, lengths, found, losses, gradients = [], [], [], [], []
    for x, y in path:
        with torch.no_grad():
            point.copy_(torch.tensor([[x, y]], dtype=DOUBLE))
        values.append([5 * (x * x + y * y) / 2, 0.3 * x - 0.4 * y + 9, 0.1 * x**4])
        lengths.append([5 * math.hypot(x, y), 0.5, abs(0.4 * x**3)])
        loss = balancer(terms(), [1.0, 2.0, 0.5])
        (gradient,) = torch.autograd.grad(loss, point)
        found.append(balancer.factors().tolist())
        losses.append(loss.item())
        gradients.append(gradient[0].tolist())
    expected = by_hand(values, lengths, balance)
    for (x, y), value, factor, seen, loss, gradient in zip(
        path, values, expected, found, losses, gradients, strict=True
    ):
        assert seen == pytest.approx(factor, rel=1e-9)
        a, b, c = factor[0], 2.0 * factor[1], 0.5 * factor[2]
        assert loss == pytest.approx(a * value[0] + b * value[1] + c * value[2])
        assert gradient == pytest.approx([a * 5 * x + b * 0.3 + c * 0.4 * x**3, a * 5 * y - b * 0.4])


def test_scales_of_1_and_1000_are_equalised_at_once_and_stay_so() -> None:
    batch = data()
    objective = two_scales(us.GradientNorm(alpha=0.0, every=1, rate=1.0), first=1.0, second=1.0)
    distiller = us.Distiller(network(), None, objective, example=batch)
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.05)
    for _ in range(40):
        loss = distiller(batch).loss
        found = norms(distiller, batch)
        assert found["small"] == pytest.approx(found["big"], rel=1e-4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert distiller.student(batch[0]).mean() > -0.5  # drawn to 1 and to -1 alike; the plain sum ends at -0.998
    weights = distiller.objective.weights()
    assert sum(weights.values()) == pytest.approx(2.0)


def test_learned_uncertainty_brings_the_scales_together_too() -> None:
    batch = data()
    terms = (Pull(name="small", goal=1.0, floor=1.0), Pull(name="big", goal=-1.0, floor=1.0, scale=1000.0))
    objective = us.Objective(terms, us.LearnedUncertainty())
    distiller = us.Distiller(network(), None, objective, example=batch)
    optimizer = torch.optim.Adam(distiller.parameters(), lr=0.05, betas=(0.9, 0.9))
    for _ in range(300):
        step = distiller(batch)
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
    weights = distiller.objective.weights()
    parts = [weights[label] * float(value) for label, value in step.terms.items()]
    assert parts == pytest.approx([0.5, 0.5], rel=0.1)


def test_a_schedule_multiplies_the_balance() -> None:
    batch = data()
    ramp = us.Linear(start=0.0, end=4.0)
    objective = us.Objective((Pull(name="a", weight=ramp), Pull(name="b", goal=2.0)), us.GradientNorm(every=1))
    distiller = us.Distiller(network(), None, objective, example=batch)
    step = distiller(batch, progress=0.25)
    weights = distiller.objective.weights(0.25)
    torch.testing.assert_close(step.loss.item(), sum(weights[each] * float(step.terms[each]) for each in "ab"))
    assert weights["a"] == pytest.approx(distiller.objective.weights(0.5)["a"] / 2)
    assert distiller.objective.weights(0.0)["a"] == 0.0
    with pytest.raises(us.InputError, match="progress"):
        distiller.objective.weights()


@pytest.mark.parametrize("off", ["eval", "no_grad"])
def test_nothing_is_measured_in_eval_mode_or_without_gradients(off) -> None:
    batch = data()
    distiller = us.Distiller(network(), None, two_scales(us.GradientNorm(every=1)), example=batch)
    before = copy.deepcopy(distiller.objective.state_dict())
    distiller.train(off != "eval")
    with torch.set_grad_enabled(off != "no_grad"):
        distiller(batch)
    assert {key: value.tolist() for key, value in distiller.objective.state_dict().items()} == {
        key: value.tolist() for key, value in before.items()
    }


def test_a_term_about_nothing_leaves_finite_weights() -> None:
    inputs, targets = data()
    nothing = torch.full_like(targets, us.IGNORE_INDEX)
    teacher = network(6, seed=2)
    for balance in BALANCES:
        objective = us.Objective((us.CrossEntropy(), us.SoftTargets(), us.LogitMse()), balance)
        distiller = us.Distiller(network(), teacher, objective, example=(inputs, targets))
        optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1)
        for labels in (nothing, nothing, targets, nothing):
            optimizer.zero_grad()
            distiller((inputs, labels)).loss.backward()
            optimizer.step()
            weights = distiller.objective.weights()
            assert all(math.isfinite(weight) and weight > 0 for weight in weights.values())
            if labels is nothing and balance.kind == "gradient_norm" and distiller.objective.balance.measured[0] == 0:
                assert weights["cross_entropy"] == 1.0
        assert all(parameter.isfinite().all() for parameter in distiller.parameters())


def test_gradients_of_several_passes_at_once_are_those_of_their_own_weights() -> None:
    """A second forward pass before the first backward pass: what changed in place must not be what it needs."""
    first, second = data(), data()
    for balance in BALANCES:
        distiller = us.Distiller(network(), None, two_scales(balance), example=first)
        alone = copy.deepcopy(distiller)
        alone(first).loss.backward()
        kept = distiller(first).loss
        distiller(second)
        kept.backward()
        for parameter, twin in zip(distiller.student.parameters(), alone.student.parameters(), strict=True):
            assert torch.equal(parameter.grad, twin.grad)


def test_the_students_state_and_gradients_are_left_alone() -> None:
    batch = data()
    for balance in BALANCES:
        student = network()
        names = list(student.state_dict())
        distiller = us.Distiller(student, None, two_scales(balance), example=batch)
        assert list(student.state_dict()) == names
        assert all(parameter.grad is None for parameter in distiller.parameters())
        distiller(batch)
        assert all(parameter.grad is None for parameter in distiller.parameters())
        owned = [name for name, _ in distiller.named_parameters() if not name.startswith("student.")]
        learned = ["objective.balance.log_variances"] if balance.kind == "learned_uncertainty" else []
        assert owned == learned


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_measures_what_full_precision_does(dtype) -> None:
    """The losses are so small that a gradient in float16 would vanish."""
    batch = data()
    objective = us.Objective(
        (Pull(name="a", scale=2e-7), Pull(name="b", scale=1e-5, goal=2.0)), us.GradientNorm(alpha=0.0, every=1)
    )
    found = []
    for enabled in (False, True):
        distiller = us.Distiller(network(), None, objective, example=batch)
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            distiller(batch)
        found.append(distiller.objective.weights())
    assert found[1] == pytest.approx(found[0], rel=0.02)


def test_checkpointed_and_compiled_students_are_measured_alike() -> None:
    class Checkpointed(nn.Sequential):
        def forward(self, inputs: Tensor) -> Tensor:
            return checkpoint(super().forward, inputs, use_reentrant=False)

    batch, found = data(), []
    for kind in ("plain", "checkpointed", "compiled"):
        student = Checkpointed(*network()) if kind == "checkpointed" else network()
        distiller = us.Distiller(student, None, two_scales(us.GradientNorm(every=2)), example=batch)
        if kind == "compiled":
            student.compile(backend="aot_eager")
        distiller.objective.balance.passes = 1  # so that a compiled pass comes before the first measurement
        for _ in range(4):
            distiller(batch).loss.backward()
        assert distiller.objective.balance.measured.tolist() == [2, 2]
        found.append([parameter.grad for parameter in student.parameters()])
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


def test_a_compiled_distiller_is_refused() -> None:
    batch = data()
    distiller = us.Distiller(network(), None, two_scales(us.GradientNorm()), example=batch)
    with pytest.raises(us.InputError, match="compile the student instead"):
        torch.compile(distiller, backend="eager")(batch)


def test_measured_is_the_last_weight_that_all_terms_reach_or_the_layer_asked_for() -> None:
    batch, teacher = data(), network(6, seed=2)
    hint = us.Hint(student_layer="1", teacher_layer="1")
    for terms, layer, expected in (
        ((us.CrossEntropy(), us.SoftTargets()), None, ["2.weight"]),
        ((us.CrossEntropy(), hint), None, ["0.weight"]),
        ((us.CrossEntropy(), us.SoftTargets()), "0", ["0.weight", "0.bias"]),
        ((us.CrossEntropy(), hint), "", ["0.weight", "0.bias"]),
    ):
        student = network()
        distiller = us.Distiller(student, teacher, us.Objective(terms, us.GradientNorm(layer=layer)), example=batch)
        names = {id(parameter): name for name, parameter in student.named_parameters()}
        assert [names[id(each)] for each in distiller.objective.balance._shared] == expected


@each_balance
def test_two_processes_weigh_like_one_that_sees_the_whole_batch(two_processes, balance) -> None:
    (first, weights), (second, same) = two_processes.run(balanced.trained, balance)
    assert first == second
    assert weights == same
    alone, expected = two_processes.alone(balanced.trained, None, balance)
    for found, wanted in zip(first, alone, strict=True):
        assert found == pytest.approx(wanted, rel=1e-4)
    assert weights == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_examinations_leave_no_trace() -> None:
    batch = data()
    for balance in BALANCES:
        distiller = us.Distiller(network(), None, two_scales(balance), example=batch)
        distiller(batch)
        before = {key: value.clone() for key, value in distiller.objective.state_dict().items()}
        term_balance(distiller, data())
        with undisturbed(distiller):
            distiller(data())
        after = distiller.objective.state_dict()
        assert all(torch.equal(value, before[key]) for key, value in after.items())


def test_an_objective_keeps_its_balance_and_the_control_has_none() -> None:
    ce, soft = us.CrossEntropy(), us.SoftTargets()
    objective = (ce + soft).balanced(us.GradientNorm())
    assert objective == us.Objective((ce, soft), us.GradientNorm()) != ce + soft
    assert (2 * objective).balance == (objective + us.LogitMse()).balance == us.GradientNorm()
    assert ((us.LogitMse() + us.ReverseKl()) + objective).balance == us.GradientNorm()
    assert (objective + us.Objective((us.LogitMse(), us.ReverseKl()), us.GradientNorm())).balance == us.GradientNorm()
    assert objective.balanced(us.LearnedUncertainty()).balance == us.LearnedUncertainty()
    assert objective.without_teacher(ce) == us.Objective.of(ce)
    with pytest.raises(us.InputError, match=r"one balance, got GradientNorm.*LearnedUncertainty"):
        objective + us.Objective((us.LogitMse(), us.ReverseKl()), us.LearnedUncertainty())


def test_what_cannot_be_balanced_is_refused() -> None:
    with pytest.raises(us.InputError, match=r"gradient_norm weighs .* only 'cross_entropy'"):
        us.Objective.of(us.CrossEntropy()).balanced(us.GradientNorm())
    with pytest.raises(us.InputError, match="a value such as LearnedUncertainty"):
        us.Objective((us.CrossEntropy(), us.SoftTargets()), us.GradientNorm)
    with pytest.raises(ValidationError, match="learned_uncertainty"):
        TypeAdapter(AnyBalance).validate_python({"kind": "learned_uncertanty"})
    for wrong in ({"every": 0}, {"alpha": -1.0}, {"rate": 0.0}, {"beta": 1.0}):
        with pytest.raises(ValidationError):
            us.GradientNorm(**wrong)
    batch = data()
    with pytest.raises(us.InputError, match=r"student has no layer '3'"):
        us.Distiller(network(), None, two_scales(us.GradientNorm(layer="3")), example=batch)
    hint = us.Hint(student_layer="1", teacher_layer="1")
    for layer, words in (("2", r"layer '2' has none: of its 2 .* cross_entropy 2, hint 0"), (None, "the student has")):
        student = network()
        student[0].requires_grad_(layer is not None)
        objective = us.Objective(
            (us.CrossEntropy(), us.SoftTargets() if layer is None else hint), us.GradientNorm(layer=layer)
        )
        student.requires_grad_(layer is not None)
        with pytest.raises(us.InputError, match=words):
            us.Distiller(student, network(6), objective, example=batch)
