"""A bad teacher is found on the user's own data, and the cause is guessed."""

import copy

import pytest
import torch
from torch import nn

import understudy as us
from doctor.setting import batches, found, mlp, train
from understudy.doctor import check_teacher, diagnose


def permute(model: nn.Module, order: list[int]) -> nn.Module:
    """Let output i be what output order[i] was."""
    head = model[-1]
    with torch.no_grad():
        head.weight.copy_(head.weight[order].clone())
        head.bias.copy_(head.bias[order].clone())
    return model


@pytest.mark.parametrize("seed", range(4))
def test_an_untrained_teacher_guesses(digits, distill, seed):
    torch.manual_seed(seed)
    finding = found(
        diagnose(distill(mlp(16), mlp(64, 64)), digits.loader(), val=digits.val_loader()), "teacher_quality"
    )
    assert finding.severity == "error"
    assert "500 labelled samples (validation), chance is 10.0%" in finding.seen


def test_without_validation_data_the_loaders_labels_serve(digits, distill):
    finding = found(diagnose(distill(mlp(16), mlp(64, 64)), digits.loader()), "teacher_quality")
    assert "(training)" in finding.seen


def test_a_constant_teacher_on_unbalanced_data(digits, distill):
    teacher = mlp(8)
    with torch.no_grad():
        teacher[-1].bias[7] = 100.0
    inputs, targets = digits.val
    mostly_seven = torch.where(torch.arange(len(targets)) % 10 == 0, targets, 7)
    finding = found(diagnose(distill(mlp(16), teacher), [(inputs, mostly_seven)]), "teacher_quality")
    assert finding.severity == "warning"
    assert "nothing to do with the labels" in finding.message


def test_a_weak_teacher_is_a_warning(digits, distill, teacher):
    inputs, targets = digits.val
    guessed = torch.where(torch.arange(len(targets)) % 6 == 0, targets, torch.randint(10, targets.shape))
    finding = found(diagnose(distill(mlp(16), teacher), batches(inputs, guessed)), "teacher_quality")
    assert finding.severity == "warning"


def test_permuted_classes_are_named(digits, distill, teacher):
    order = [3, 1, 2, 7, 4, 5, 6, 0, 8, 9]  # output 0 is class 3, output 3 is class 7, output 7 is class 0
    findings = diagnose(distill(mlp(16), permute(teacher, order)), digits.loader(), val=digits.val_loader())
    finding = found(findings, "class_order")
    assert finding.severity == "error"
    assert "class 0 is its output 7, class 3 is its output 0, class 7 is its output 3" in finding.seen
    # The remedy is literal: indexing the outputs so repairs the teacher.
    assert "[7, 1, 2, 0, 4, 5, 6, 3, 8, 9]" in finding.remedy
    repaired = permute(teacher, [7, 1, 2, 0, 4, 5, 6, 3, 8, 9])
    assert diagnose(distill(mlp(16), repaired), digits.loader(), val=digits.val_loader()) == []


def test_permuted_classes_are_named_by_name(digits, distill, teacher):
    distiller = distill(mlp(16), permute(teacher, [1, 0, *range(2, 10)]))
    names = ["zero", "one", *"23456789"]
    findings = diagnose(distiller, digits.loader(), val=digits.val_loader(), classes=names)
    assert "class 0 ('zero') is its output 1, class 1 ('one') is its output 0," in found(findings, "class_order").seen


@pytest.mark.parametrize(
    ("scale", "name"),
    [
        (lambda x: 255.0 * x, "in [0, 255]"),
        (lambda x: 2.0 * x - 1.0, "in [-1, 1]"),
        (lambda x: (x - 0.306) / 0.377, "standardised by this data's mean"),
        (lambda x: (x - 0.449) / 0.226, "normalised by ImageNet's mean"),
    ],
)
def test_a_teacher_of_other_inputs_is_told_apart(digits, distill, scale, name):
    inputs, targets = digits.train
    teacher = train(mlp(64, norm=True), scale(inputs), targets)
    finding = found(
        diagnose(distill(mlp(16), teacher), digits.loader(), val=digits.val_loader()), "input_normalisation"
    )
    assert finding.severity == "error"
    assert name in finding.message
    assert "`preprocess: {mean: [" in finding.remedy


def test_a_teacher_of_pixels_that_the_loader_normalises(digits, distill, teacher):
    inputs, targets = digits.train
    loader = [((inputs - 0.306) / 0.377, targets)]
    finding = found(diagnose(distill(mlp(16), teacher), loader), "input_normalisation")
    assert "in [0, 1]" in finding.message
    mean, std = (float(part.split("]")[0]) for part in finding.remedy.split("[")[1:])
    assert mean == pytest.approx(-0.306 / 0.377, rel=1e-2)
    assert std == pytest.approx(1.0 / 0.377, rel=1e-2)


def test_three_channels_of_imagenet(digits, distill):
    def colour(images: torch.Tensor) -> torch.Tensor:
        return torch.cat([images, 0.5 * images, 1.0 - images], dim=1)

    inputs, targets = digits.train
    mean, std = (torch.tensor(each).reshape(3, 1, 1) for each in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
    train(teacher, (colour(inputs) - mean) / std, targets)
    batch = (colour(inputs), targets)
    student = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    distiller = us.Distiller(student, teacher, us.SoftTargets(), example=batch)
    finding = found(diagnose(distiller, [batch]), "input_normalisation")
    assert "ImageNet" in finding.message
    assert "{mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}" in finding.remedy


def test_swapped_networks(digits, distill, teacher):
    finding = found(diagnose(distill(teacher.train(), mlp(16)), digits.loader(), val=digits.val_loader()), "swapped")
    assert finding.severity == "error"
    assert "26,634 parameters to the teacher's 1,210" in finding.seen


def test_a_student_that_is_no_good_either_is_not_the_teacher(digits, distill, teacher):
    inputs, targets = digits.val
    noisy = torch.where(torch.arange(len(targets)) % 10 < 3, targets, torch.randint(10, targets.shape))
    findings = diagnose(distill(teacher.train(), mlp(16)), digits.loader(), val=batches(inputs, noisy))
    assert {each.check for each in findings if each.severity == "error"} == {"teacher_quality"}


def test_a_smaller_teacher_that_is_good_is_only_a_note(digits, distill):
    teacher = train(mlp(16), *digits.train)
    findings = diagnose(distill(mlp(128), teacher), digits.loader(), val=digits.val_loader())
    assert [(each.check, each.severity) for each in findings] == [("swapped", "note")]


def test_check_teacher_stops_a_run(digits, distill):
    with pytest.raises(us.InputError, match=r"error \(teacher_quality\): the teacher guesses"):
        check_teacher(distill(mlp(16), mlp(64, 64)), digits.val_loader())


def test_check_teacher_passes_a_good_one(digits, distiller):
    assert check_teacher(distiller, digits.val_loader(), control_metric=0.9) == []


def test_check_teacher_without_a_teacher(digits, distill):
    assert check_teacher(distill(mlp(16), None, us.CrossEntropy()), digits.val_loader()) == []


def test_a_teacher_worse_than_the_control(digits, distill):
    distiller = distill(mlp(16), train(mlp(8), *digits.train, steps=40))
    with pytest.raises(us.InputError, match="worse than the student trained without it"):
        check_teacher(distiller, digits.val_loader(), control_metric=0.97)


def test_a_teacher_hardly_worse_than_the_control_is_a_warning(digits, distill, teacher):
    inputs, targets = digits.val
    reached = float((copy.deepcopy(teacher).eval()(inputs).argmax(-1) == targets).double().mean())
    findings = check_teacher(distill(mlp(16), teacher), digits.val_loader(), control_metric=reached + 0.002)
    assert [each.severity for each in findings] == ["warning"]


class Saying(nn.Module):
    """Says the class that is written in each input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, inputs):
        return 9.0 * self.weight * nn.functional.one_hot(inputs[:, 0].long().clamp(0, 2), 3)


def saying(mistakes: int):
    """A teacher that takes some of the twelve rare samples for the common class, and what it is judged on."""
    labels = torch.tensor(([0] * 120 + [1] * 4 + [2] * 4) * 3)
    said = labels.index_fill(0, (labels == 2).nonzero().flatten()[:mistakes], 0)
    task = us.Classification(metric="recall")
    example = (torch.zeros(2, 1), labels[:2])
    distiller = us.Distiller(nn.Linear(1, 3), Saying(), us.SoftTargets(), example=example, task=task)
    return distiller, batches(said[:, None].float(), labels, size=128)


def test_one_rare_sample_proves_nothing_against_a_control_without_a_mistake():
    finding = found(check_teacher(*saying(1), control_metric=1.0), "teacher_quality")
    assert finding.severity == "warning"
    assert "recall 0.9722 against 1.0000 of the control" in finding.seen


def test_most_of_the_rare_samples_do():
    with pytest.raises(us.InputError, match=r"recall 0\.7778 against 1\.0000 of the control"):
        check_teacher(*saying(8), control_metric=1.0)


def test_too_few_labels_to_judge(digits, distiller):
    inputs, targets = digits.val
    finding = found(diagnose(distiller, digits.loader(), val=[(inputs[:10], targets[:10])]), "teacher_quality")
    assert finding.severity == "note"
