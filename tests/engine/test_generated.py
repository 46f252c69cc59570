"""Images that are made while the student learns: nobody else is touched, and it goes on where it was."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import understudy as us
from understudy.engine import generated
from understudy.engine.batches import Batches, LearningLoader
from understudy.engine.generation import generator_terms
from understudy.engine.process import process
from understudy.engine.randomness import random_state
from understudy.functional import imbalance, indecision, kl_divergence, logit_distance
from understudy.sources.builtin import cnn
from understudy.sources.forward import evaluating
from understudy.teachers import Ensemble, ModuleTeacher

TASK = us.ImageClassification()


def loader(student: nn.Module, teacher: nn.Module, *, seed: int = 0, **fields) -> us.GeneratedLoader:
    generation = us.Generation(**{"latent": 8, "widths": (8, 4), "epoch": 5, **fields})
    return us.GeneratedLoader(student, teacher, generation, task=TASK, shape=(1, 8, 8), batch_size=12, seed=seed)


def networks() -> tuple[nn.Module, nn.Module]:
    """A student with dropout and batch norm, and a teacher with statistics of its own."""
    student = nn.Sequential(nn.Dropout(0.5), cnn(1, 10, widths=(3, 4)))
    teacher = cnn(1, 10, widths=(4, 6))
    for _ in range(5):
        teacher(torch.rand(64, 1, 8, 8))
    return student, teacher.eval()


def contents(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def images(batches) -> list[Tensor]:
    return [batch.inputs for batch in batches]


def test_batches_have_numbers_and_no_labels() -> None:
    made = loader(*networks())
    made.set_epoch(2)
    first, second, *_ = batches = list(made)
    assert len(batches) == len(made) == 5
    assert first.inputs.shape == (12, 1, 8, 8)
    assert not first.inputs.requires_grad
    assert first.ids.tolist() == list(range(120, 132))
    assert second.ids.tolist() == list(range(132, 144))
    assert not first.labelled.any()
    assert not torch.equal(first.inputs, second.inputs)


def test_noise_is_new_for_each_batch_epoch_and_seed() -> None:
    student, teacher = networks()
    seen = []
    for seed in (0, 1):
        still = loader(student, teacher, seed=seed, steps=0)
        still.generator.load_state_dict(loader(student, teacher).generator.state_dict())
        for epoch in (0, 1):
            still.set_epoch(epoch)
            seen += images(still)
            assert all(torch.equal(one, other) for one, other in zip(images(still), seen[-5:], strict=True))
    assert len({tuple(one.flatten().tolist()) for one in seen}) == len(seen) == 20


def moved_by_reading() -> list[str]:
    """What changes in both networks, and in the generators of random numbers, when images are made."""
    student, teacher = networks()
    student.train()[1].block1.norm.eval()  # a layer that its user keeps still
    teacher.train()  # only the loader sees to it that it answers in eval mode
    modes = [module.training for network in (student, teacher) for module in network.modules()]
    before, randomness = (contents(student), contents(teacher)), random_state()
    parameters = [*student.parameters(), *teacher.parameters()]
    parameters[0].grad = torch.ones_like(parameters[0])
    list(loader(student, teacher, one_hot=1.0, balance=1.0, statistics=1.0))
    found = {
        "student": not same(before[0], contents(student)),
        "teacher": not same(before[1], contents(teacher)),
        "modes": modes != [module.training for network in (student, teacher) for module in network.modules()],
        "random numbers": randomness != random_state(),
        "gradients": any(parameter.grad is not None for parameter in parameters[1:])
        or not torch.equal(parameters[0].grad, torch.ones_like(parameters[0])),
        "hooks": any(module._forward_pre_hooks for module in teacher.modules()),
    }
    return [name for name, has in found.items() if has]


def test_student_and_teacher_are_untouched() -> None:
    assert moved_by_reading() == []


def test_forgetting_eval_mode_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    monkeypatch.setattr(generated, "evaluating", nullcontext)
    assert {"student", "teacher", "random numbers"} <= set(moved_by_reading())


def test_teacher_and_student_learn_nothing_but_the_generator_does() -> None:
    student, teacher = networks()
    made, still = loader(student, teacher), loader(student, teacher, steps=0)
    assert same(contents(made.generator), contents(still.generator))
    before = contents(still.generator)
    first, other = images(made), images(still)
    assert same(before, contents(still.generator))
    assert not same(before, contents(made.generator))
    assert not torch.equal(first[0], other[0])  # it learns before the first batch is drawn


@pytest.mark.parametrize("term", ["adversarial", "one_hot", "balance", "statistics"])
def test_each_term_alone_goes_down(term: str) -> None:
    student, teacher = networks()
    weights = {name: float(name == term) for name in ("adversarial", "one_hot", "balance", "statistics")}
    made = loader(student, teacher, epoch=30, optimizer={"kind": "adam", "lr": 0.01}, **weights)

    def value() -> float:
        with evaluating(student), torch.no_grad(), generated._gaps(generated._norms(teacher)) as gaps:
            inputs = made.images(200)
            answers = teacher(inputs)
            terms = generator_terms(student(inputs), answers, gaps, generation=us.Generation())
        return float(terms[term])

    before = value()
    list(made)
    assert value() < before - 0.005 * abs(before)


def test_the_terms_are_those_of_their_papers() -> None:
    student, teacher = torch.randn(6, 4), 3.0 * torch.randn(6, 4)
    gaps = {"a": torch.tensor(2.0), "b": torch.tensor(0.5)}
    found = generator_terms(student, teacher, gaps, generation=us.Generation())
    assert found["adversarial"] == -logit_distance(student, teacher).mean()
    assert found["one_hot"] == indecision(teacher)
    assert found["balance"] == imbalance(teacher)
    assert found["statistics"] == 2.5
    divergence = generator_terms(student, teacher, {}, generation=us.Generation(discrepancy="kl", balance=0.0))
    assert divergence.keys() == {"adversarial", "one_hot"}
    assert divergence["adversarial"] == -kl_divergence(student, teacher).mean()


def test_the_gradient_is_that_of_the_weighted_sum() -> None:
    """One step of plain gradient descent, against central differences of the sum written out."""
    student, teacher = (network.double() for network in networks())
    weights = {"adversarial": 0.7, "one_hot": 0.3, "balance": 2.0, "statistics": 0.5}
    rate = 1e-3
    made = loader(student, teacher, epoch=1, optimizer={"kind": "sgd", "lr": rate}, **weights)
    made.generator.double()
    noise = made._noise(12, 0, 0, 1).double()
    made._noise = lambda count, *key: noise  # the same values, in double precision
    student.eval()

    def loss() -> float:
        with torch.no_grad(), generated._gaps(generated._norms(teacher)) as gaps:
            inputs = made.generator(noise)
            own, answers = student(inputs), teacher(inputs)
        total = -0.7 * float((own - answers).abs().mean()) + 0.3 * float(indecision(answers))
        return total + 2.0 * float(imbalance(answers)) + 0.5 * float(sum(gaps.values()))

    weight = made.generator.paint.conv.weight
    start, slopes = weight.detach().clone(), []
    for place in [(0, 0, 0, 0), (0, 2, 1, 1), (0, 3, 2, 0)]:
        ends = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                weight[place] += step
                ends.append(loss())
                weight.copy_(start)
        slopes.append((place, (ends[0] - ends[1]) / 2e-6))
    next(iter(made))
    for place, slope in slopes:
        assert float(start[place] - weight[place].detach()) / rate == pytest.approx(slope, rel=1e-4, abs=1e-7)


def test_it_goes_on_where_it_was_bit_for_bit() -> None:
    student, teacher = networks()
    whole, half, resumed = (loader(student, teacher) for _ in range(3))
    expected = images(whole)
    begun = half.iterate()
    assert torch.equal(next(begun).inputs, expected[0])
    assert torch.equal(next(begun).inputs, expected[1])
    state = {name: tensor.clone() for name, tensor in half.state_dict().items()}
    resumed.load_state_dict(state)
    rest = images(resumed.iterate(2))
    assert all(torch.equal(one, other) for one, other in zip(rest, expected[2:], strict=True))
    assert same(resumed.state_dict(), whole.state_dict())
    forgetful = loader(student, teacher)
    forgetful.generator.load_state_dict(half.generator.state_dict())  # without the moments of the optimizer
    assert not torch.equal(images(forgetful.iterate(2))[-1], expected[-1])


def test_turns_go_on_over_epochs() -> None:
    made = loader(*networks(), epoch=3, every=2)
    steps: list[tuple[int, ...]] = []
    made._train = lambda *key: steps.append(key)
    for epoch in range(2):
        made.set_epoch(epoch)
        list(made)
    assert [running for running, _ in steps] == [0, 2, 4]


def test_looking_at_a_first_batch_teaches_nothing() -> None:
    student, teacher = networks()
    made = loader(student, teacher)
    assert isinstance(made, LearningLoader)
    batches = Batches(made, task=TASK, current=process())
    list(made)
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    batches.first()
    assert same(before, made.state_dict())
    distiller = us.Distiller(student, teacher, us.SoftTargets(), example=next(iter(made)), task=TASK)
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    us.diagnose(distiller, made, batches=2)
    assert same(before, made.state_dict())


@pytest.mark.parametrize("plain", [True, False])
def test_fit_learns_from_it(plain: bool) -> None:
    student, teacher = networks()
    made = loader(student, teacher, epoch=20)
    distiller = us.Distiller(student, teacher, us.SoftTargets(), example=(made.images(2),), task=TASK)
    execution = {"execution": "plain"} if plain else {}
    training = us.Training(epochs=2, optimizer=us.Optimizer(kind="adam", lr=0.01), select="last", **execution)
    fitted = us.fit(distiller, made, training)
    assert fitted.steps == 40
    assert fitted.history[-1]["loss"] < 0.8 * fitted.history[0]["loss"]


def test_a_checkpoint_of_another_generator_is_refused(tmp_path) -> None:
    def run(seed: int, stop: bool) -> None:
        torch.manual_seed(0)
        student, teacher = networks()
        made = loader(student, teacher, seed=seed)
        distiller = us.Distiller(student, teacher, us.SoftTargets(), example=(made.images(2),), task=TASK)
        training = us.Training(steps=4, optimizer=us.Optimizer(lr=0.1), checkpoint_every=1)
        us.fit(distiller, made, training, directory=tmp_path, callbacks=[Stop()] if stop else [])

    with pytest.raises(KeyboardInterrupt):
        run(0, stop=True)
    with pytest.raises(us.InputError, match=r"another training: loader\.seed was 0, is 1 now"):
        run(1, stop=False)
    run(0, stop=False)


class Stop:
    def stepped(self, moment) -> None:
        if moment.step == 3:
            raise KeyboardInterrupt

    def recorded(self, moment, record) -> None: ...


def faulty() -> list[tuple[str, Callable[[], object]]]:
    student, teacher = networks()
    several = Ensemble([ModuleTeacher(teacher, task=TASK), ModuleTeacher(student, task=TASK)])
    return [
        ("expected a network, got a Ensemble", lambda: loader(student, several)),
        (
            "nothing to train the generator for",
            lambda: us.Generation(adversarial=0, one_hot=0, balance=0, statistics=0),
        ),
        ("no optimizer 'adm'; nearest: 'adam'", lambda: loader(student, teacher, optimizer={"kind": "adm", "lr": 0.1})),
    ]


@pytest.mark.parametrize("case", range(3))
def test_errors(case: int) -> None:
    message, make = faulty()[case]
    with pytest.raises(ValueError, match=message):
        make()


def test_a_teacher_without_batch_norm_has_no_statistics_term() -> None:
    student, _ = networks()
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert len(images(loader(student, teacher, statistics=5.0))) == 5
    alone = loader(student, teacher, adversarial=0.0, one_hot=0.0, balance=0.0, statistics=5.0)
    before = contents(alone.generator)
    list(alone)
    assert same(before, contents(alone.generator))  # nothing to learn from, and no error


def test_a_teacher_whose_layers_cannot_be_seen_is_refused() -> None:
    student, teacher = networks()
    hidden = Hiding(teacher)
    with pytest.raises(us.InputError, match="none of the teacher's 2 batch normalisations ran"):
        list(loader(student, hidden, statistics=1.0))


class Hiding(nn.Module):
    """Runs its layers as functions, past their hooks, as a compiled network does."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)[:, :10] + 0.0 * next(self.inner.parameters()).sum()
