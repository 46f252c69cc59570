"""Teachers whose answers are numbers: no better than the mean, in another unit, worse than the control."""

import pytest
import torch
from torch import nn

from understudy import Batch, Distiller, InputError, NumberRegression, Regression, SentenceEmbedding, SquaredError
from understudy.doctor import check_teacher, diagnose

TASK = NumberRegression()
ROWS = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
TRUE = ROWS.sum(1, keepdim=True)


def linear(factor: float = 1.0, shift: float = 0.0, *, noise: float = 0.0) -> nn.Linear:
    torch.manual_seed(1)
    layer = nn.Linear(4, 1)
    with torch.no_grad():
        layer.weight.fill_(factor).add_(noise * torch.randn(1, 4))
        layer.bias.fill_(shift)
    return layer


def distiller(teacher: nn.Module) -> Distiller:
    torch.manual_seed(2)
    student = nn.Linear(4, 1)
    example = (ROWS, TRUE)
    return Distiller(student, teacher, 0.5 * SquaredError() + 0.5 * Regression(), example=example, task=TASK)


def loader(targets: torch.Tensor = TRUE) -> list[Batch]:
    return [Batch(inputs=ROWS[part], targets=targets[part], ids=part) for part in torch.arange(120).split(40)]


def test_a_good_teacher_is_praised_by_silence() -> None:
    assert check_teacher(distiller(linear()), loader(), control_metric=0.5) == []
    assert diagnose(distiller(linear()), loader(), val=loader(), classes=("score",)) == []


def test_one_that_knows_the_mean_at_most() -> None:
    with pytest.raises(InputError, match=r"knows no more than the mean of the data.*R² -"):
        check_teacher(distiller(linear(-1.0)), loader())
    found = diagnose(distiller(linear(0.0, float(TRUE.mean()) + 0.1)), loader(), val=loader())
    assert [(each.check, each.severity) for each in found if each.severity == "error"] == [("teacher_quality", "error")]


def test_one_that_counts_in_another_unit() -> None:
    with pytest.raises(InputError, match=r"number_scale.*in another unit.*correlation 1.00; it answers 3"):
        check_teacher(distiller(linear(10.0, 300.0)), loader())


def test_one_that_is_hardly_better() -> None:
    (found,) = check_teacher(distiller(linear(0.03)), loader())
    assert (found.check, found.severity) == ("teacher_quality", "warning")
    assert "hardly better than the mean" in found.message


def test_one_that_is_worse_than_the_control() -> None:
    noisy = linear(noise=0.5)
    reached = float((noisy(ROWS).detach() - TRUE).square().mean().sqrt())
    with pytest.raises(InputError, match="worse than the student trained without it"):
        check_teacher(distiller(noisy), loader(), control_metric=0.5 * reached)
    (found,) = check_teacher(distiller(noisy), loader(), control_metric=0.98 * reached)
    assert found.severity == "warning"
    assert check_teacher(distiller(noisy), loader(), control_metric=1.01 * reached) == []


def test_numbers_that_few_know() -> None:
    targets = torch.where(torch.arange(120)[:, None] < 10, TRUE, float("nan"))
    (found,) = check_teacher(distiller(linear(-1.0)), loader(targets))
    assert (found.severity, found.seen) == ("note", "10 labelled samples (validation)")


def test_of_embeddings_nobody_knows_how_good_they_are() -> None:
    student = nn.Linear(4, 3)
    set_up = Distiller(student, nn.Linear(4, 3), Regression(norm="l2"), example=ROWS, task=SentenceEmbedding())
    batches = [Batch(inputs=part) for part in ROWS.split(40)]
    assert check_teacher(set_up, batches) == []
    assert diagnose(set_up, batches, val=batches, classes=()) == []
