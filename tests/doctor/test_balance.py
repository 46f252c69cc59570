"""Terms out of proportion are named, with the weight that balances them."""

import pytest
import torch

from doctor.setting import OBJECTIVE, TASK, found, mlp, serious
from understudy import CrossEntropy, Distiller, GradientNorm, Hint, Linear, SoftTargets
from understudy.doctor import diagnose, term_balance
from understudy.doctor.balance import TermGradient, check_balance


def test_the_norms_are_those_of_backward(digits, distill, teacher):
    distiller = distill(mlp(16), teacher, 0.5 * CrossEntropy() + 2.0 * SoftTargets(temperature=2.0))
    batch = digits.loader()[0]
    balance = term_balance(distiller, batch)
    for term in (0.5 * CrossEntropy(), 2.0 * SoftTargets(temperature=2.0)):
        alone = Distiller(distiller.student, teacher, term, example=batch, task=TASK)
        alone(batch).loss.backward()
        gradients = [each.grad.flatten() for each in distiller.student.parameters()]
        assert balance[term.label] == pytest.approx(float(torch.cat(gradients).norm()), rel=1e-5)
        distiller.student.zero_grad()


def test_the_norms_follow_a_schedule(digits, distill, teacher):
    distiller = distill(mlp(16), teacher, CrossEntropy() + Linear(start=1.0, end=3.0) * SoftTargets())
    first, last = (term_balance(distiller, digits.loader()[0], progress=each) for each in (0.0, 1.0))
    assert last["soft_targets"] == pytest.approx(3.0 * first["soft_targets"])
    assert last["cross_entropy"] == pytest.approx(first["cross_entropy"])


def test_a_term_that_drowns_the_others(digits, distill, teacher):
    objective = OBJECTIVE + 1e5 * Hint(student_layer="1", teacher_layer="1")
    finding = found(diagnose(distill(mlp(16), teacher, objective), digits.loader()), "term_balance")
    assert finding.severity == "warning"
    assert "the term hint drowns the term cross_entropy" in finding.message
    weight = float(finding.remedy.split()[1])
    assert 1e-4 < weight < 1e3


def test_the_weight_it_names_balances(digits, distill, teacher):
    student, hint = mlp(16), Hint(student_layer="1", teacher_layer="1")
    drowned = distill(student, teacher, 0.5 * CrossEntropy() + 1e5 * hint)
    weight = float(found(diagnose(drowned, digits.loader()), "term_balance").remedy.split()[1])
    repaired = distill(student, teacher, 0.5 * CrossEntropy() + weight * hint)
    balance = term_balance(repaired, digits.loader()[0])
    assert 0.1 < balance["hint"] / balance["cross_entropy"] < 10.0
    assert serious(diagnose(repaired, digits.loader())) == []


def test_under_a_balance_only_the_weights_are_out_of_proportion(digits, distill, teacher):
    loud, quiet, heavy = (
        TermGradient(label, weight, 1.0, norm, frozenset())
        for label, weight, norm in (("loud", 1.0, 1e5), ("quiet", 1.0, 1.0), ("heavy", 1e4, 1.0))
    )
    assert [finding.severity for finding in check_balance([loud, quiet])] == ["warning"]
    assert check_balance([loud, quiet], adaptive=True) == []
    (finding,) = check_balance([heavy, quiet], adaptive=True)
    assert finding.remedy == "weight 1 for heavy (now 1e+04) balances them"
    objective = 0.5 * CrossEntropy() + 1e5 * Hint(student_layer="1", teacher_layer="1")
    balanced = distill(mlp(16), teacher, objective.balanced(GradientNorm()))
    assert "hint 2e+05 times cross_entropy" in found(diagnose(balanced, digits.loader()), "term_balance").seen


def test_a_term_that_comes_in_slowly_is_not_out_of_proportion(digits, distill, teacher):
    objective = CrossEntropy() + Linear(start=1e-9, end=1.0) * SoftTargets(temperature=4.0)
    assert serious(diagnose(distill(mlp(16), teacher, objective), digits.loader())) == []


def test_terms_that_never_meet_are_not_compared(digits, distill, teacher):
    early = Linear(start=1e5, end=0.0, begin=0.1, finish=0.2) * Hint(student_layer="1", teacher_layer="1")
    late = Linear(start=0.0, end=1.0, begin=0.3, finish=0.4) * CrossEntropy()
    assert serious(diagnose(distill(mlp(16), teacher, early + late), digits.loader())) == []


def test_a_silent_term_is_a_note(digits, distill, teacher):
    loader = [(batch.inputs, torch.full_like(batch.targets, -100)) for batch in digits.loader()]
    finding = found(diagnose(distill(mlp(16), teacher), loader, val=digits.val_loader()), "term_balance")
    assert finding.severity == "note"
    assert "cross_entropy" in finding.message
