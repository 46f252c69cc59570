"""A teacher that tells only its likeliest classes: what is compared with it, and what is refused."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from understudy import (
    Batch,
    Classification,
    CrossEntropy,
    Distiller,
    Ensemble,
    InputError,
    JensenShannon,
    Knowledge,
    ReverseKl,
    SimilarityPreserving,
    SkewKl,
    SoftTargets,
    TotalVariation,
)
from understudy.doctor import check_teacher, diagnose
from understudy.doctor.evidence import observe
from understudy.functional import kl_divergence, soft_target_loss, tail_logit
from understudy.knowledge import TopClasses
from understudy.methods import METHODS
from understudy.objective import Objective

POSITIONS, CLASSES, KEPT = 6, 9, 3


@dataclass
class Told:
    """A teacher that knows the answers by heart, and tells the likeliest classes; all without ``keep``."""

    logits: Tensor
    keep: int | None = KEPT
    temperatures: tuple[float, ...] = (1.0,)
    features: dict[str, Tensor] = field(default_factory=dict)

    def observe(self, batch: Batch, taps: tuple[str, ...] = ()) -> Knowledge:
        logits = self.logits[batch.ids]
        features = {path: self.features[path][batch.ids] for path in taps}
        if self.keep is None:
            return Knowledge(logits=logits, features=features)
        values, kept = logits.topk(self.keep, -1)
        tails = {each: tail_logit(logits, kept, temperature=each) for each in self.temperatures}
        return Knowledge(logits=values, features=features, top=TopClasses(kept, tails, logits.shape[-1]))


class Free(nn.Module):
    """A student whose logits are its parameters, one row for each sample."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.table = nn.Embedding(*logits.shape, _weight=logits.clone())

    def forward(self, ids: Tensor) -> Tensor:
        return self.table(ids)


def drawn(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2.0 * torch.randn(POSITIONS, CLASSES, generator=generator, dtype=torch.float64)


def batch(targets: Tensor | None = None) -> Batch:
    ids = torch.arange(POSITIONS)
    return Batch(inputs=ids, targets=ids % CLASSES if targets is None else targets, ids=ids)


def loss_and_gradient(student: Tensor, teacher: Told, method) -> tuple[Tensor, Tensor]:
    network = Free(student)
    distiller = Distiller(network, teacher, method, example=batch())
    loss = distiller(batch()).loss
    (gradient,) = torch.autograd.grad(loss, network.table.weight)
    return loss.detach(), gradient


def shares(logits: Tensor, kept: list[int], temperature: float) -> list[Tensor]:
    """The probabilities of the kept classes one by one, and of all others together."""
    powers = [(logit / temperature).exp() for logit in logits]
    rest = sum(power for number, power in enumerate(powers) if number not in kept)
    return [each / sum(powers) for each in [*(powers[number] for number in kept), rest]]


def forward_kl(student: list[Tensor], teacher: list[Tensor], method) -> Tensor:
    return method.temperature**2 * sum(q * (q.log() - p.log()) for p, q in zip(student, teacher, strict=True))


def reverse_kl(student: list[Tensor], teacher: list[Tensor], method) -> Tensor:
    return forward_kl(teacher, student, method)


def jensen_shannon(student: list[Tensor], teacher: list[Tensor], method) -> Tensor:
    mixture = [method.beta * q + (1 - method.beta) * p for p, q in zip(student, teacher, strict=True)]
    return method.beta * forward_kl(mixture, teacher, method) + (1 - method.beta) * forward_kl(mixture, student, method)


def skew_kl(student: list[Tensor], teacher: list[Tensor], method) -> Tensor:
    mixture = [method.beta * q + (1 - method.beta) * p for p, q in zip(student, teacher, strict=True)]
    return forward_kl(mixture, teacher, method)


def total_variation(student: list[Tensor], teacher: list[Tensor], method) -> Tensor:
    return sum((p - q).abs() for p, q in zip(student, teacher, strict=True)) / 2


CASES = [
    (SoftTargets(temperature=4.0), forward_kl),
    (SoftTargets(temperature=1.0), forward_kl),
    (ReverseKl(temperature=2.0), reverse_kl),
    (SkewKl(beta=0.3, temperature=2.5), skew_kl),
    (JensenShannon(beta=0.3, temperature=2.5), jensen_shannon),
    (TotalVariation(), total_variation),
]
each_case = pytest.mark.parametrize(("method", "reference"), CASES, ids=lambda value: getattr(value, "kind", ""))


@each_case
def test_loss_and_gradient_are_those_of_the_kept_classes_and_the_tail(method, reference) -> None:
    student, teacher = drawn(0), drawn(1)
    temperature = method.merges_at
    loss, gradient = loss_and_gradient(student, Told(teacher, temperatures=(1.0, temperature)), method)
    free = student.clone().requires_grad_()
    kept = teacher.topk(KEPT, -1).indices.tolist()
    rows = [
        reference(shares(mine, chosen, temperature), shares(theirs, chosen, temperature), method)
        for mine, theirs, chosen in zip(free, teacher, kept, strict=True)
    ]
    expected = sum(rows) / POSITIONS
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, free)[0], rtol=1e-8, atol=1e-12)
    assert abs(loss) > 1e-3


@each_case
def test_where_both_agree_on_the_tail_it_is_the_loss_of_all_classes(method, reference) -> None:
    teacher, shift = drawn(1), drawn(2)
    kept = teacher.topk(KEPT, -1).indices
    student = (teacher + shift[:, :1]).scatter(-1, kept, drawn(3))  # the same odds among the classes of the tail
    told = loss_and_gradient(student, Told(teacher, temperatures=(1.0, method.merges_at)), method)
    dense = loss_and_gradient(student, Told(teacher, keep=None), method)
    torch.testing.assert_close(told, dense, rtol=1e-9, atol=1e-12)
    apart = loss_and_gradient(drawn(4), Told(teacher, temperatures=(1.0, method.merges_at)), method)
    whole = loss_and_gradient(drawn(4), Told(teacher, keep=None), method)
    assert apart[0] < whole[0]


def test_terms_that_merge_and_terms_that_do_not_stand_beside_each_other() -> None:
    student, teacher = drawn(0), Told(drawn(1), temperatures=(1.0, 4.0))
    objective = 0.5 * CrossEntropy() + 2.0 * SoftTargets() + ReverseKl()
    step = Distiller(Free(student), teacher, objective, example=batch())(batch())
    alone = [loss_and_gradient(student, teacher, term)[0] for term in (CrossEntropy(), SoftTargets(), ReverseKl())]
    assert step.loss.item() == pytest.approx(0.5 * alone[0] + 2.0 * alone[1] + alone[2])
    assert step.student.logits.shape == (POSITIONS, CLASSES)


def test_rows_without_labels_are_left_out_of_merged_ones_too() -> None:
    targets = torch.tensor([0, -100, 2, -100, 1, 0])
    teacher, labelled = Told(drawn(1), temperatures=(1.0, 4.0)), batch(targets)
    distiller = Distiller(Free(drawn(0)), teacher, SoftTargets(rows="labelled"), example=labelled)
    chosen = torch.tensor([0, 2, 4, 5])
    few = Batch(inputs=chosen, targets=targets[chosen], ids=chosen)
    expected = Distiller(Free(drawn(0)), teacher, SoftTargets(), example=few)(few).loss
    torch.testing.assert_close(distiller(labelled).loss, expected)


NEEDY = [method for method in METHODS if method.needs_teacher and method.compares_logits]


@pytest.mark.parametrize("method", NEEDY, ids=lambda method: method.__name__)
def test_a_method_about_each_class_is_refused_and_the_others_are_not(method) -> None:
    student, teacher, term = Free(drawn(0)), Told(drawn(1), temperatures=(1.0, 4.0)), method()
    if term.wants_pairs:
        layers = [name for name in method.model_fields if name.endswith(("_layer", "_classifier"))]
        term, teacher.features["table"] = method(**dict.fromkeys(layers, "table")), drawn(1)
    if term.merges_at is not None:
        assert Distiller(student, teacher, term, example=batch())(batch()).loss.isfinite()
        return
    with pytest.raises(InputError) as error:
        Distiller(student, teacher, term, example=batch())
    assert str(error.value) == (
        f"{term.label} compares each class, and the teacher tells only its 3 likeliest of 9; use soft_targets, "
        "reverse_kl, skew_kl, jensen_shannon or total_variation, or record all classes (leave `top` out)"
    )


def test_which_methods_can_be_merged_is_known() -> None:
    assert {method for method in NEEDY if method().merges_at is not None} == {
        SoftTargets,
        ReverseKl,
        SkewKl,
        JensenShannon,
        TotalVariation,
    }


def test_another_temperature_than_those_of_the_tail_is_refused() -> None:
    teacher = Told(drawn(1), temperatures=(1.0, 4.0))
    Distiller(Free(drawn(0)), teacher, SoftTargets(temperature=4.0) + TotalVariation(), example=batch())
    with pytest.raises(
        InputError, match=r"soft_targets is at temperature 2\.5, .* only at temperature 1, 4;.*\[2\.5\]"
    ):
        Distiller(Free(drawn(0)), teacher, SoftTargets(temperature=2.5), example=batch())


def test_other_numbers_of_classes_are_refused_as_ever() -> None:
    teacher = Told(drawn(1)[:, :-1], temperatures=(1.0, 4.0))
    with pytest.raises(InputError, match="teacher has 8 classes and the student 9"):
        Distiller(Free(drawn(0)), teacher, SoftTargets(), example=batch())


def test_an_ensemble_needs_all_classes_of_each() -> None:
    together = Ensemble([Told(drawn(1), keep=None), Told(drawn(2), keep=KEPT)])
    with pytest.raises(InputError, match=r"shapes \[\(6, 9\), \(6, 3\)\]"):
        together.observe(batch())
    with pytest.raises(InputError, match="a member of the ensemble tells only its likeliest classes"):
        Ensemble([Told(drawn(1)), Told(drawn(2))]).observe(batch())


def test_terms_about_layers_do_not_care() -> None:
    features = {"table": drawn(5)}
    losses = [
        Distiller(
            Free(drawn(0)),
            Told(drawn(1), keep=keep, features=features),
            SimilarityPreserving(student_layer="table", teacher_layer="table"),
            example=batch(),
        )(batch()).loss
        for keep in (KEPT, None)
    ]
    assert torch.equal(*losses)


def test_the_doctor_sees_logits_of_all_classes() -> None:
    torch.manual_seed(0)
    count = 64
    logits = torch.randn(count, CLASSES)
    targets = logits.argmax(-1)
    whole = Batch(inputs=torch.arange(count), targets=targets, ids=torch.arange(count))
    distiller = Distiller(Free(torch.zeros(count, CLASSES)), Told(logits), SoftTargets(temperature=1.0), example=whole)
    (seen,) = observe(distiller, [whole])
    assert seen.teacher.logits.shape == (count, CLASSES)
    assert torch.equal(seen.teacher.logits.argmax(-1), targets)
    known = logits.topk(KEPT, -1).indices
    torch.testing.assert_close(
        seen.teacher.logits.softmax(-1).gather(-1, known), logits.softmax(-1).gather(-1, known), rtol=1e-5, atol=1e-7
    )
    assert [found for found in diagnose(distiller, [whole]) if found.severity == "error"] == []
    assert [found for found in check_teacher(distiller, [whole]) if found.severity == "error"] == []
    assert type(distiller.task) is Classification


def test_a_student_of_the_tail_gets_nearer_to_the_teacher_than_one_of_rescaled_classes() -> None:
    """What the architecture's decision rests on: of many classes, scaling the likeliest up to one misleads."""
    torch.manual_seed(0)
    inputs, classes = torch.randn(128, 6), 30
    teacher = inputs @ torch.randn(6, classes)
    answer = Told(teacher, keep=5).observe(Batch(inputs=inputs, ids=torch.arange(128)))
    built = Objective.of(SoftTargets(temperature=1.0)).build(Knowledge(logits=teacher), answer)

    def full(logits: Tensor) -> Tensor:
        return soft_target_loss(logits, teacher)

    def merged(logits: Tensor) -> Tensor:
        return built(Knowledge(logits=logits), answer, Batch(inputs=inputs))[0]

    def rescaled(logits: Tensor) -> Tensor:
        return soft_target_loss(logits.gather(-1, answer.top.kept), answer.logits)

    def divergence_after(loss: Callable[[Tensor], Tensor]) -> float:
        weights = torch.zeros(6, classes, requires_grad=True)
        for _ in range(30):
            (gradient,) = torch.autograd.grad(loss(inputs @ weights), weights)
            weights = (weights.detach() - 2.0 * gradient).requires_grad_()
        return float(kl_divergence(inputs @ weights.detach(), teacher).mean())

    found = [divergence_after(loss) for loss in (full, merged, rescaled)]
    assert found[0] < found[1] < 0.3 * found[2], found
