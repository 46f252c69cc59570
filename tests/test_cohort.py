"""Students that train together: each term names who learns from whom."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from conformance.networks import CLASSES, Network, gradients, raw_batch
from understudy import (
    Cohort,
    CrossEntropy,
    Distiller,
    Ensemble,
    Hint,
    InputError,
    ModuleTeacher,
    Optimizer,
    SoftTargets,
    Training,
    fit,
)
from understudy.tasks import Classification

MUTUAL = (
    CrossEntropy(name="label_a", student="a")
    + CrossEntropy(name="label_b", student="b")
    + SoftTargets(name="a_from_b", student="a", teacher="b", temperature=1.0)
    + SoftTargets(name="b_from_a", student="b", teacher="a", temperature=1.0)
)


def two() -> dict[str, Network]:
    torch.manual_seed(3)
    return {"a": Network(6), "b": Network(10)}


def divergence(learner: torch.Tensor, peer: torch.Tensor) -> torch.Tensor:
    """KL of equations 3 and 4 of Deep Mutual Learning, by loops."""
    total = torch.zeros(())
    for row in range(len(learner)):
        own, other = learner[row].log_softmax(-1), peer[row].detach().log_softmax(-1)
        for k in range(CLASSES):
            total = total + other[k].exp() * (other[k] - own[k])
    return total / len(learner)


def test_deep_mutual_learning_equals_the_sum_written_by_hand() -> None:
    networks = two()
    by_hand = copy.deepcopy(networks)
    inputs, targets = raw_batch()
    step = Distiller(Cohort(networks), None, MUTUAL, example=raw_batch())(raw_batch())
    step.loss.backward()
    a, b = by_hand["a"](inputs), by_hand["b"](inputs)
    loss = F.cross_entropy(a, targets) + F.cross_entropy(b, targets) + divergence(a, b) + divergence(b, a)
    loss.backward()
    torch.testing.assert_close(step.loss, loss)
    for name in networks:
        expected = gradients(by_hand[name])
        for path, gradient in gradients(networks[name]).items():
            torch.testing.assert_close(gradient, expected[path], rtol=1e-4, atol=1e-6)


def test_a_peer_gets_no_gradient_from_teaching() -> None:
    networks = two()
    terms = SoftTargets(student="a", teacher="b") + Hint(
        student="a", teacher="b", student_layer="block", teacher_layer="block"
    )
    distiller = Distiller(Cohort(networks), None, terms, example=raw_batch())
    distiller(raw_batch()).loss.backward()
    assert gradients(networks["a"])
    assert not gradients(networks["b"])


def test_a_cohort_may_have_a_teacher_beside_it() -> None:
    networks, teacher = two(), Network(20)
    named = Ensemble({"big": ModuleTeacher(teacher, task=Classification())})
    for given, term in ((teacher, SoftTargets(student="b")), (named, SoftTargets(student="b", teacher="big"))):
        step = Distiller(Cohort(networks), given, term, example=raw_batch())(raw_batch())
        expected = 16.0 * divergence(networks["b"](raw_batch()[0]) / 4, teacher(raw_batch()[0]) / 4)
        torch.testing.assert_close(step.loss, expected, rtol=1e-4, atol=1e-6)


def test_layers_that_auto_finds_are_those_of_the_students_that_are_named() -> None:
    convolutions = {
        name: nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.MaxPool2d(2),
            nn.Conv2d(width, width, 3),
            nn.Flatten(),
            nn.Linear(width * 4, 3),
        )
        for name, width in (("a", 2), ("b", 5))
    }
    example = (torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0]))
    step = Distiller(Cohort(convolutions), None, Hint(student="b", teacher="a"), example=example)(example)
    assert {feature.shape[1] for feature in step.student.members["a"].features.values()} == {2}
    assert {feature.shape[1] for feature in step.student.members["b"].features.values()} == {5}
    step.loss.backward()
    assert not gradients(convolutions["a"])


def test_the_first_student_is_the_one_that_is_shown_validated_and_kept() -> None:
    networks = two()
    cohort = Cohort(networks)
    inputs, _ = raw_batch()
    assert cohort.first is networks["a"]
    assert torch.equal(cohort(inputs), networks["a"](inputs))
    step = Distiller(cohort, None, MUTUAL, example=raw_batch())(raw_batch())
    assert step.student.logits is step.student.members["a"].logits
    assert set(step.terms) == {"label_a", "label_b", "a_from_b", "b_from_a"}


def test_fit_trains_both(tmp_path) -> None:
    networks = two()
    before = copy.deepcopy(networks)
    distiller = Distiller(Cohort(networks), None, MUTUAL, example=raw_batch())
    training = Training(steps=20, batch_size=8, optimizer=Optimizer(kind="adam", lr=0.05), execution="plain")
    fitted = fit(distiller, [raw_batch()], training, val=[raw_batch()], directory=tmp_path)
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]
    for name, network in networks.items():
        moved = (network.head.weight - before[name].head.weight).abs().max()
        assert moved > 0.05, name
    accuracy = (networks["a"](raw_batch()[0]).argmax(-1) == raw_batch()[1]).float().mean().item()
    assert fitted.history[-1]["val"]["accuracy"] == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (CrossEntropy(student="c"), r"no student 'c'; the students are 'a', 'b'"),
        (SoftTargets(student="a", teacher="a"), r"'a' cannot be its own teacher"),
        (SoftTargets(teacher="a"), r"'a' cannot be its own teacher"),
        (SoftTargets(student="a", teacher="big"), r"no teacher 'big'; expected one of 'a', 'b'"),
        (SoftTargets(student="a"), r"soft_targets need a teacher"),
        (
            Hint(student="a", teacher="b", student_layer="block", teacher_layer="nowhere"),
            r"student b has no layer 'nowhere'",
        ),
    ],
)
def test_who_is_not_there_is_named(term, message) -> None:
    with pytest.raises(InputError, match=message):
        Distiller(Cohort(two()), None, term, example=raw_batch())


def test_a_student_and_a_teacher_need_different_names() -> None:
    teacher = Ensemble({"a": ModuleTeacher(Network(), task=Classification())})
    with pytest.raises(InputError, match="both called 'a'"):
        Distiller(Cohort(two()), teacher, SoftTargets(student="b", teacher="a"), example=raw_batch())


@pytest.mark.parametrize(
    ("members", "message"),
    [({}, "at least one student"), ({"a.b": Network()}, r"'a\.b'"), ({"keys": Network()}, "'keys'")],
)
def test_what_is_no_cohort_is_refused(members, message) -> None:
    with pytest.raises(InputError, match=message):
        Cohort(members)
    network = Network()
    with pytest.raises(InputError, match="the same network"):
        Cohort({"a": network, "b": network})
