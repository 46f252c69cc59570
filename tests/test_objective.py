import pytest
import torch
from pydantic import ValidationError

from understudy import Batch, Cosine, CrossEntropy, Hint, InputError, Knowledge, Linear, Objective, SoftTargets


def knowledge(classes: int = 3) -> Knowledge:
    return Knowledge(logits=torch.randn(4, classes))


def batch() -> Batch:
    return Batch(inputs=torch.zeros(4, 1), targets=torch.tensor([0, 1, 2, 0]))


def test_algebra_reads_like_the_sum_it_is() -> None:
    ce, soft = CrossEntropy(), SoftTargets(temperature=4.0)
    objective = 0.1 * ce + 0.9 * soft
    assert objective == Objective((CrossEntropy(weight=0.1), SoftTargets(temperature=4.0, weight=0.9)))
    assert objective == ce * 0.1 + soft * 0.9
    assert objective == sum([0.1 * ce, 0.9 * soft])
    assert objective == Objective.of([0.1 * ce, 0.9 * soft])
    assert 2 * objective == 0.2 * ce + 1.8 * soft
    hint = Hint(student_layer="a", teacher_layer="b")
    assert (objective + hint).terms == (*objective.terms, hint)
    assert (0.5 * (0.5 * ce)).weight == 0.25
    assert ce.weight == 1.0  # nothing changes in place


def test_a_schedule_is_a_weight_too() -> None:
    scheduled = Linear(start=1.0, end=0.0) * SoftTargets(weight=0.5)
    assert scheduled.weight == Linear(start=0.5, end=0.0)
    assert (2 * scheduled).weight == Linear(start=1.0, end=0.0)
    with pytest.raises(InputError, match=r"two schedules \(cosine times linear\)"):
        Cosine() * scheduled


@pytest.mark.parametrize("factor", [-0.1, float("nan"), float("inf")])
def test_a_weight_is_zero_or_more_and_finite(factor: float) -> None:
    with pytest.raises(InputError, match="zero or more"):
        factor * CrossEntropy()
    with pytest.raises(ValidationError):
        CrossEntropy(weight=factor)


def test_what_is_no_objective_is_said_to_be_none() -> None:
    with pytest.raises(InputError, match="at least one term"):
        Objective.of([])
    with pytest.raises(InputError, match="is a method"):
        Objective.of([CrossEntropy])
    with pytest.raises(InputError, match=r"two terms.*'soft_targets'.*name="):
        SoftTargets(temperature=1.0) + SoftTargets(temperature=4.0)
    named = SoftTargets(temperature=1.0) + SoftTargets(temperature=4.0, name="hot")
    assert [term.label for term in named.terms] == ["soft_targets", "hot"]
    with pytest.raises(InputError, match="'values'"):
        Objective.of(CrossEntropy(name="values"))
    with pytest.raises(TypeError):
        1 + CrossEntropy()


def test_taps_are_collected_once_each() -> None:
    objective = Hint(student_layer="a", teacher_layer="x") + Hint(student_layer="a", teacher_layer="y", name="second")
    assert objective.student_taps == ("a",)
    assert objective.teacher_taps == ("x", "y")
    assert objective.needs_teacher
    assert not objective.compares_logits
    assert (objective + SoftTargets()).compares_logits
    assert not Objective.of(CrossEntropy()).needs_teacher


def test_the_value_is_the_weighted_sum_and_the_terms_are_unweighted() -> None:
    objective = 0.1 * CrossEntropy() + Linear(start=0.0, end=2.0) * SoftTargets()
    student, teacher = knowledge(), knowledge()
    built = objective.build(student, teacher)
    loss, terms = built(student, teacher, batch(), progress=0.75)
    assert list(terms) == ["cross_entropy", "soft_targets"]
    torch.testing.assert_close(loss, 0.1 * terms["cross_entropy"] + 1.5 * terms["soft_targets"])
    alone = SoftTargets().loss(student, teacher, batch())
    assert torch.equal(terms["soft_targets"], alone)
    assert not any(value.requires_grad for value in terms.values())
    with pytest.raises(InputError, match="progress"):
        built(student, teacher, batch())


def test_all_terms_that_do_not_fit_are_named_at_once() -> None:
    objective = Hint(student_layer="a", teacher_layer="x") + Hint(student_layer="b", teacher_layer="x", name="second")
    student = Knowledge(torch.zeros(2, 5), features={"a": torch.zeros(2, 3), "b": torch.zeros(2, 3, 4)})
    teacher = Knowledge(torch.zeros(2, 5), features={"x": torch.zeros(2, 4, 8, 8)})
    with pytest.raises(InputError) as caught:
        objective.build(student, teacher)
    assert len(str(caught.value).splitlines()) == 2
    assert "hint ('a' to 'x')" in str(caught.value)
    assert "second ('b' to 'x')" in str(caught.value)


def test_the_control_keeps_what_needs_no_teacher_at_full_size() -> None:
    distilled = 0.1 * CrossEntropy(label_smoothing=0.1) + 0.9 * SoftTargets()
    assert distilled.without_teacher(CrossEntropy()) == Objective.of(CrossEntropy(label_smoothing=0.1))
    two = 0.1 * CrossEntropy() + 0.3 * CrossEntropy(label_smoothing=0.1, name="smooth") + 0.6 * SoftTargets()
    assert [term.weight for term in two.without_teacher(CrossEntropy()).terms] == pytest.approx([0.25, 0.75])
    assert Objective.of(SoftTargets()).without_teacher(CrossEntropy()) == Objective.of(CrossEntropy())
