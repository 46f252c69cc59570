import math

import pytest
import torch
from torch import nn

from conformance.networks import Network, objective, raw_batch
from understudy import (
    Batch,
    Classification,
    Distiller,
    Ensemble,
    Hint,
    InputError,
    Knowledge,
    ModuleTeacher,
    SoftTargets,
)
from understudy.functional import soft_target_loss
from understudy.sources.architecture import build_architecture
from understudy.sources.model_specs import BuiltinModel

TASK = Classification()


def cnn(width: int) -> BuiltinModel:
    return BuiltinModel(name="cnn", arguments={"widths": [width, 2 * width]})


class Says:
    """Always the same answer."""

    def __init__(self, logits: list[list[float]], mask: torch.Tensor | None = None) -> None:
        self.knowledge = Knowledge(logits=torch.tensor(logits, dtype=torch.float64), mask=mask)

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> Knowledge:
        return self.knowledge


BATCH = Batch(inputs=torch.zeros(2, 1))
ONE, TWO = [[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]], [[-3.0, 1.0, 1.0], [4.0, 0.0, 0.0]]


def probabilities(row: list[float]) -> list[float]:
    exponentials = [math.exp(value) for value in row]
    return [value / sum(exponentials) for value in exponentials]


@pytest.mark.parametrize("weights", [None, (1.0, 1.0), (3.0, 1.0), (0.0, 2.0)])
def test_is_the_weighted_mean_of_the_probabilities(weights) -> None:
    answer = Ensemble([Says(ONE), Says(TWO)], weights).observe(BATCH)
    a, b = weights or (1.0, 1.0)
    for row, (one, two) in enumerate(zip(ONE, TWO, strict=True)):
        for k, (p, q) in enumerate(zip(probabilities(one), probabilities(two), strict=True)):
            assert answer.logits[row, k].exp().item() == pytest.approx((a * p + b * q) / (a + b), rel=1e-12)


def test_one_member_is_that_member_up_to_a_constant() -> None:
    answer = Ensemble([Says(ONE)]).observe(BATCH)
    alone = Says(ONE).observe(BATCH)
    assert soft_target_loss(answer.logits, alone.logits, temperature=4.0).abs() < 1e-15


def test_softening_the_mean_is_not_the_mean_of_the_softened() -> None:
    """And the first is what is done."""
    answer = Ensemble([Says(ONE), Says(TWO)]).observe(BATCH).logits
    mean = (torch.tensor(ONE).softmax(-1) + torch.tensor(TWO).softmax(-1)).double() / 2
    softened_mean = mean.sqrt() / mean.sqrt().sum(-1, keepdim=True)  # temperature 2
    mean_of_softened = ((torch.tensor(ONE) / 2).softmax(-1) + (torch.tensor(TWO) / 2).softmax(-1)).double() / 2
    torch.testing.assert_close((answer / 2).softmax(-1), softened_mean, rtol=1e-6, atol=1e-7)
    assert (softened_mean - mean_of_softened).abs().max() > 0.01


def test_sure_members_do_not_overflow_and_the_type_is_at_least_float32() -> None:
    far = Ensemble([Says([[1e4, 0.0]]), Says([[1e4, 0.0]])]).observe(BATCH).logits
    assert far.isfinite().all()
    torch.testing.assert_close(far, torch.tensor([[0.0, -1e4]]).double())
    low = Says(ONE)
    low.knowledge = Knowledge(logits=low.knowledge.logits.bfloat16())
    assert Ensemble([low]).observe(BATCH).logits.dtype == torch.float32


def test_teaches_like_any_other_teacher() -> None:
    members = [Network(8), Network(10)]
    ensemble = Ensemble([ModuleTeacher(network, task=TASK) for network in members])
    distiller = Distiller(Network(), ensemble, SoftTargets(temperature=2.0), example=raw_batch())
    step = distiller(raw_batch())
    step.loss.backward()
    expected = (members[0](raw_batch()[0]).softmax(-1) + members[1](raw_batch()[0]).softmax(-1)) / 2
    torch.testing.assert_close(step.teacher.logits.exp(), expected.detach())
    assert not step.teacher.logits.requires_grad
    assert len(list(distiller.parameters())) == len(list(distiller.student.parameters()))
    with pytest.raises(InputError, match=r"no layers of its own.*'block'.*'0', '1'"):
        Distiller(Network(), ensemble, objective(), example=raw_batch())


def test_a_term_may_ask_one_member_and_read_its_layers() -> None:
    """Each term names its teacher; the sum equals one written by hand."""
    torch.manual_seed(0)
    student, big, small = Network(), Network(12), Network(8)
    teacher = Ensemble({"big": ModuleTeacher(big, task=TASK), "small": ModuleTeacher(small, task=TASK)}, (3.0, 1.0))
    terms = (
        SoftTargets(temperature=2.0, teacher="big")
        + 0.5 * SoftTargets(name="second", teacher="small")
        + 0.25 * SoftTargets(name="both")
        + 2 * Hint(student_layer="block", teacher_layer="block", teacher="small")
    )
    distiller = Distiller(student, teacher, terms, example=raw_batch())
    assert distiller.teacher_taps == ("small/block",)
    inputs, _ = raw_batch()
    step = distiller(raw_batch())
    logits, seen = student(inputs), {name: network(inputs).detach() for name, network in (("b", big), ("s", small))}
    mean = (0.75 * seen["b"].softmax(-1) + 0.25 * seen["s"].softmax(-1)).log()
    adapter = distiller.objective.terms["hint"].joined[0].adapter
    feature, answer = student.block(student.stem(inputs)), small.block(small.stem(inputs)).detach()
    expected = (
        soft_target_loss(logits, seen["b"], temperature=2.0)
        + 0.5 * soft_target_loss(logits, seen["s"], temperature=SoftTargets().temperature)
        + 0.25 * soft_target_loss(logits, mean, temperature=SoftTargets().temperature)
        + 2 * (adapter(feature) - answer).square().mean()
    )
    torch.testing.assert_close(step.loss, expected)


def test_auto_finds_the_layers_of_the_member_that_is_named() -> None:
    pair = {
        name: ModuleTeacher(
            build_architecture(cnn(width), classes=10, inputs=torch.rand(2, 1, 16, 16), pretrained=False), task=TASK
        )
        for name, width in (("narrow", 4), ("wide", 12))
    }
    student = build_architecture(cnn(6), classes=10, inputs=torch.rand(2, 1, 16, 16), pretrained=False)
    example = (torch.rand(2, 1, 16, 16), torch.tensor([0, 1]))
    terms = Hint(name="a", teacher="wide") + Hint(name="b", teacher="narrow")
    distiller = Distiller(student, Ensemble(pair), terms, example=example)
    step = distiller(example)
    step.loss.backward()
    widths = {
        tap: step.teacher.members[tap.split("/")[0]].features[tap.split("/")[1]].shape[1]
        for tap in distiller.teacher_taps
    }
    assert {width for tap, width in widths.items() if tap.startswith("wide/")} == {24}
    assert {width for tap, width in widths.items() if tap.startswith("narrow/")} == {8}


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (SoftTargets(teacher="huge"), r"no teacher 'huge'; expected one of 'big', 'small'"),
        (SoftTargets(student="big"), r"no student 'big'; there is only one"),
        (
            Hint(student_layer="block", teacher_layer="nowhere", teacher="small"),
            r"teacher small has no layer 'nowhere'",
        ),
    ],
)
def test_who_is_not_there_is_named(term, message) -> None:
    teacher = Ensemble({name: ModuleTeacher(Network(8), task=TASK) for name in ("big", "small")})
    with pytest.raises(InputError, match=message):
        Distiller(Network(), teacher, term, example=raw_batch())
    with pytest.raises(InputError, match="no teacher 'big'; there is only one"):
        Distiller(Network(), Network(), SoftTargets(teacher="big"), example=raw_batch())


@pytest.mark.parametrize("weights", [None, (1.0, 4.0)])
def test_the_most_confident_member_is_picked_sample_by_sample(weights) -> None:
    one, two = [[4.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 2.0, 0.0]], [[0.0, 1.0, 0.0], [0.0, 0.0, 3.0], [0.0, 0.0, 1.9]]
    answer = Ensemble([Says(one), Says(two)], weights, combine="confident").observe(BATCH).logits
    a, b = weights or (1.0, 1.0)
    for row in range(3):
        p, q = probabilities(one[row]), probabilities(two[row])
        picked = p if a * max(p) > b * max(q) else q
        assert answer[row].exp().tolist() == pytest.approx(picked, rel=1e-12)


def test_the_mask_is_kept() -> None:
    mask = torch.tensor([True, False])
    assert Ensemble([Says(ONE, mask), Says(TWO, mask)]).observe(BATCH).mask is mask


@pytest.mark.parametrize(
    ("teachers", "weights", "message"),
    [
        ([], None, "at least one teacher"),
        ([nn.Linear(4, 3)], None, r"member 0 .* is a Linear.*ModuleTeacher"),
        ([Says(ONE)], (1.0, 2.0), "2 weights for an ensemble of 1"),
        ([Says(ONE), Says(TWO)], (0.0, 0.0), "not all zero"),
        ([Says(ONE), Says(TWO)], (-1.0, 2.0), "zero or more"),
        ([Says(ONE), Says(TWO)], (1.0, float("inf")), "finite"),
        ([Says(ONE), Says(TWO)], (1.0, float("nan")), "zero or more"),
    ],
)
def test_what_is_no_ensemble_is_refused(teachers, weights, message) -> None:
    with pytest.raises(InputError, match=message):
        Ensemble(teachers, weights)


def test_members_with_other_classes_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(2, 3\), \(1, 2\)"):
        Ensemble([Says(ONE), Says([[0.0, 1.0]])]).observe(BATCH)
