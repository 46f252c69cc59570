"""A student that does not train is found out."""

import pytest
from torch import nn

import understudy as us
from doctor.setting import found, mlp
from understudy.doctor import check_modes, diagnose


def test_a_student_left_in_eval_mode(digits, distiller):
    distiller.eval()
    finding = found(diagnose(distiller, digits.loader()), "student_mode")
    assert finding.severity == "warning"
    assert check_modes(distiller) == [finding]
    distiller.train()
    assert check_modes(distiller) == []


def test_a_layer_left_in_eval_mode(digits, distill, teacher):
    student = mlp(32, norm=True)
    distiller = distill(student, teacher)
    student[2].eval()
    finding = found(diagnose(distiller, digits.loader()), "student_mode")
    assert finding.severity == "note"
    assert "'2'" in finding.seen


def test_nothing_to_train(digits, distiller):
    distiller.student.requires_grad_(False)
    findings = diagnose(distiller, digits.loader())
    assert [(each.check, each.severity) for each in findings] == [("student_trainable", "error")]


def test_partly_frozen_is_a_note(digits, distiller):
    distiller.student[1].requires_grad_(False)
    finding = found(diagnose(distiller, digits.loader()), "student_trainable")
    assert finding.severity == "note"
    assert "2 of 4" in finding.seen


class WithSpare(nn.Module):
    """Has a second head that no loss reads."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.spare = mlp(16), nn.Linear(10, 3)

    def forward(self, inputs):
        logits = self.body(inputs)
        return logits, self.spare(logits)


def test_parameters_without_a_gradient(digits, distill, teacher):
    finding = found(diagnose(distill(WithSpare(), teacher), digits.loader()), "student_gradient")
    assert finding.severity == "warning"
    assert "2 of 6 got none: 'spare.weight', 'spare.bias'" in finding.seen


class Severed(nn.Module):
    """Detaches its body from its head."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Flatten(), nn.Linear(64, 16)), nn.Linear(16, 10)

    def forward(self, inputs):
        return self.head(self.body(inputs).detach())


def test_a_severed_body(digits, distill, teacher):
    finding = found(diagnose(distill(Severed(), teacher), digits.loader()), "student_gradient")
    assert "'body.1.weight'" in finding.seen


@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_a_term_of_weight_zero_reaches_nothing(digits, distill, teacher, weight):
    objective = us.CrossEntropy() + weight * us.Hint(student_layer="body.3", teacher_layer="6")
    student = WithSpare()
    student.requires_grad_(True)
    distiller = distill(student, teacher, 0.0 * us.CrossEntropy() + objective.terms[1])
    findings = [each for each in diagnose(distiller, digits.loader()) if each.check == "student_gradient"]
    assert [each.severity for each in findings] == ["warning" if weight else "error"]


class OnlyEval(nn.Module):
    """A part that is meant to stay in eval mode."""

    def forward(self, inputs):
        assert not self.training, "examined in another mode than it would be trained in"
        return inputs


def test_gradients_are_taken_in_the_modes_of_the_training(digits, distill, teacher):
    student = nn.Sequential(OnlyEval(), mlp(16))
    distiller = distill(student, teacher)
    student[0].eval()
    assert diagnose(distiller, digits.loader()) == []
