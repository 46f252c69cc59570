import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from understudy.functional import (
    decoupled_loss,
    logit_standardisation_loss,
    normalised_kd_loss,
    soft_target_loss,
    weighted_soft_labels_loss,
)

seeds = st.integers(0, 2**31 - 1)
classes = st.integers(2, 7)
temperatures = st.floats(0.5, 20.0)


def triple(seed: int, count: int, classes: int, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of student and teacher, and a label for each."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (scale * torch.randn(count, classes, generator=generator).double() for _ in range(2))
    return student, teacher, torch.randint(classes, (count,), generator=generator)


@given(seeds, classes, temperatures)
def test_decoupled_is_never_negative_and_zero_at_equality(seed, classes, temperature) -> None:
    student, teacher, targets = triple(seed, 5, classes)
    loss = partial(decoupled_loss, targets=targets, temperature=temperature)
    assert loss(student, teacher) > 0.0
    assert loss(teacher - 2.0, teacher).abs() < 1e-11


@given(seeds, classes, temperatures)
def test_decoupled_with_the_teachers_doubt_for_beta_is_soft_targets(seed, classes, temperature) -> None:
    """Zhao et al. 2022, eq. 6, of a single position."""
    student, teacher, targets = triple(seed, 1, classes)
    doubt = 1.0 - (teacher / temperature).softmax(-1)[0, targets[0]].item()
    value = decoupled_loss(student, teacher, targets=targets, alpha=1.0, beta=doubt, temperature=temperature)
    expected = soft_target_loss(student, teacher, temperature=temperature)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-10)


@given(seeds, classes, st.floats(-5.0, 5.0))
def test_the_logit_of_the_true_class_has_no_part_in_the_others(seed, classes, shift) -> None:
    student, teacher, targets = triple(seed, 4, classes)
    moved = teacher + shift * torch.nn.functional.one_hot(targets, classes)
    others = partial(decoupled_loss, targets=targets, alpha=0.0)
    assert others(moved, teacher).abs() < 1e-11
    torch.testing.assert_close(others(student, moved), others(student, teacher), rtol=1e-9, atol=1e-11)


LABELLED = (decoupled_loss, normalised_kd_loss, weighted_soft_labels_loss)


@pytest.mark.parametrize("loss", LABELLED, ids=lambda loss: loss.__name__)
@given(seeds, classes)
def test_a_position_that_is_masked_or_without_a_label_is_not_there(loss, seed, classes) -> None:
    student, teacher, targets = triple(seed, 8, classes)
    keep = torch.tensor([True, False, True, True, False, False, True, False])
    sliced = loss(student[keep], teacher[keep], targets=targets[keep])
    masked = loss(student, teacher, targets=targets, mask=keep)
    unlabelled = loss(student, teacher, targets=targets.masked_fill(~keep, -100))
    torch.testing.assert_close(masked, sliced, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(unlabelled, sliced, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", LABELLED, ids=lambda loss: loss.__name__)
@given(seeds, classes, st.randoms(use_true_random=False))
def test_the_names_of_the_classes_do_not_matter(loss, seed, classes, random) -> None:
    student, teacher, targets = triple(seed, 4, classes)
    order = random.sample(range(classes), classes)
    renamed = torch.tensor([order.index(target) for target in targets.tolist()])
    value = loss(student[:, order], teacher[:, order], targets=renamed)
    torch.testing.assert_close(value, loss(student, teacher, targets=targets), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("loss", LABELLED, ids=lambda loss: loss.__name__)
def test_a_network_that_is_sure_in_float32_gives_a_finite_gradient(loss) -> None:
    """Probabilities of exactly 0 and 1, for the true class and for a wrong one."""
    sure = torch.tensor([[200.0, 0.0, -200.0], [0.0, 200.0, 0.0], [-200.0, 200.0, 200.0]])
    targets = torch.tensor([0, 0, 1])
    for student, teacher in (
        (sure, sure.roll(1, 0)),
        (sure, sure),
        (sure, torch.zeros(3, 3)),
        (torch.zeros(3, 3), sure),
    ):
        logits = student.clone().requires_grad_()
        value = loss(logits, teacher, targets=targets)
        value.backward()
        assert math.isfinite(value.item())
        assert logits.grad.isfinite().all()


@given(seeds, classes, temperatures, st.floats(0.1, 10.0), st.floats(-20.0, 20.0))
def test_standardised_logits_have_no_scale_and_no_origin(seed, classes, temperature, factor, shift) -> None:
    student, teacher, _ = triple(seed, 5, classes)
    loss = partial(logit_standardisation_loss, temperature=temperature, eps=0.0)
    value = loss(student, teacher)
    assert value > -1e-12
    torch.testing.assert_close(loss(factor * student + shift, teacher), value, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(loss(student, factor * teacher + shift), value, rtol=1e-8, atol=1e-9)
    assert loss(factor * teacher, teacher).abs() < 1e-10


@given(seeds, classes, temperatures)
def test_standardised_is_soft_targets_of_z_scores_and_masks_like_them(seed, classes, temperature) -> None:
    student, teacher, _ = triple(seed, 6, classes)
    scores = [(z - z.mean(-1, keepdim=True)) / z.var(-1, correction=0, keepdim=True).sqrt() for z in (student, teacher)]
    mask = torch.tensor([True, False, True, True, False, False])
    value = logit_standardisation_loss(student, teacher, temperature=temperature, eps=0.0, mask=mask)
    expected = soft_target_loss(scores[0][mask], scores[1][mask], temperature=temperature)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-11)


def test_logits_without_any_deviation_give_a_finite_gradient() -> None:
    flat, other = torch.full((2, 3), 5.0), torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]])
    for student, teacher in ((flat, other), (other, flat), (flat, flat)):
        logits = student.clone().requires_grad_()
        logit_standardisation_loss(logits, teacher).backward()
        assert logits.grad.isfinite().all()


@given(seeds, classes, temperatures)
def test_normalised_differs_from_decoupled_by_the_teachers_entropy_in_the_others(seed, classes, temperature) -> None:
    """The same gradient in the part that both papers share, up to its factor."""
    student, teacher, targets = triple(seed, 5, classes)
    gradients = []
    for loss in (
        partial(normalised_kd_loss, gamma=1.0, temperature=temperature),
        partial(normalised_kd_loss, gamma=0.0, temperature=temperature),
        partial(decoupled_loss, alpha=0.0, beta=1.0, temperature=temperature),
    ):
        logits = student.clone().requires_grad_()
        loss(logits, teacher, targets=targets).backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(gradients[0] - gradients[1], gradients[2], rtol=1e-9, atol=1e-11)


@given(seeds, classes)
def test_normalised_with_a_sure_teacher_is_cross_entropy(seed, classes) -> None:
    student, _, targets = triple(seed, 5, classes)
    teacher = 1e3 * torch.nn.functional.one_hot(targets, classes).double()
    value = normalised_kd_loss(student, teacher, targets=targets, gamma=0.0)
    torch.testing.assert_close(value, torch.nn.functional.cross_entropy(student, targets))
    assert normalised_kd_loss(student, teacher, targets=targets) >= value


@given(seeds, classes, temperatures)
def test_weighted_lies_between_nothing_and_soft_targets(seed, classes, temperature) -> None:
    student, teacher, targets = triple(seed, 5, classes)
    loss = partial(weighted_soft_labels_loss, targets=targets, temperature=temperature)
    assert 0.0 < loss(student, teacher) <= soft_target_loss(student, teacher, temperature=temperature)
    assert loss(teacher - 2.0, teacher).abs() < 1e-11


@given(seeds, classes, st.floats(0.5, 5.0))
def test_a_student_as_good_as_the_teacher_on_the_label_counts_by_one_less_one_over_e(seed, classes, spread) -> None:
    """The same probability for the label, another order of the rest."""
    _, teacher, targets = triple(seed, 1, classes + 1)
    others = [k for k in range(classes + 1) if k != targets[0]]
    student = teacher.clone()
    student[0, others] = teacher[0, others[1:] + others[:1]]
    value = weighted_soft_labels_loss(student, teacher, targets=targets, temperature=spread, eps=0.0)
    expected = (1.0 - math.exp(-1.0)) * soft_target_loss(student, teacher, temperature=spread)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
