import torch
from hypothesis import given
from hypothesis import strategies as st

from understudy.functional import logit_mse_loss, margin_mse_loss

seeds = st.integers(0, 2**31 - 1)
candidates = st.integers(2, 7)


def pair(seed: int, count: int, candidates: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3.0 * torch.randn(count, candidates, generator=generator).double() for _ in range(2))
    return student, teacher


@given(seeds, candidates, st.floats(-50.0, 50.0))
def test_a_constant_on_all_scores_of_a_query_changes_no_margin(seed, candidates, shift) -> None:
    student, teacher = pair(seed, 3, candidates)
    shifts = shift * torch.arange(1.0, 4.0).double()[:, None]
    value = margin_mse_loss(student, teacher)
    assert value > 0.0
    torch.testing.assert_close(margin_mse_loss(student + shifts, teacher), value, rtol=1e-9, atol=1e-11)
    assert margin_mse_loss(teacher + shifts, teacher) < 1e-20


@given(seeds)
def test_with_two_candidates_it_is_the_loss_of_a_positive_and_a_negative(seed) -> None:
    student, teacher = pair(seed, 4, 2)
    paper = ((student[:, 0] - student[:, 1]) - (teacher[:, 0] - teacher[:, 1])).square().mean()
    torch.testing.assert_close(margin_mse_loss(student, teacher), paper)


@given(seeds, candidates)
def test_is_the_stated_multiple_of_the_centred_regression(seed, candidates) -> None:
    student, teacher = pair(seed, 4, candidates)
    centred = logit_mse_loss(student, teacher, centred=True)
    torch.testing.assert_close(margin_mse_loss(student, teacher), 2 * candidates / (candidates - 1) * centred)


@given(seeds, candidates)
def test_masking_margins_equals_slicing(seed, candidates) -> None:
    student, teacher = pair(seed, 8, candidates)
    mask = torch.rand(8, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[0] = True
    masked, sliced = margin_mse_loss(student, teacher, mask=mask), margin_mse_loss(student[mask], teacher[mask])
    torch.testing.assert_close(masked, sliced, rtol=1e-12, atol=1e-14)


def test_a_single_candidate_has_no_margin() -> None:
    student = torch.tensor([[1.0], [2.0]], requires_grad=True)
    loss = margin_mse_loss(student, torch.zeros(2, 1))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0.0
    assert gradient.abs().sum() == 0.0
