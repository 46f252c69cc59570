import torch
from hypothesis import given
from hypothesis import strategies as st

from understudy.functional import logit_mse_loss, regression_loss

seeds = st.integers(0, 2**31 - 1)
outputs = st.integers(1, 6)
norms = st.sampled_from(["huber", "l1", "l2"])
deltas = st.floats(0.05, 20.0)


def pair(seed: int, count: int, outputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3.0 * torch.randn(count, outputs, generator=generator).double() for _ in range(2))
    return student, teacher


@given(seeds, outputs, norms, deltas)
def test_is_positive_symmetric_and_zero_at_equality(seed, outputs, norm, delta) -> None:
    student, teacher = pair(seed, 4, outputs)
    value = regression_loss(student, teacher, norm=norm, delta=delta)
    assert value > 0.0
    torch.testing.assert_close(regression_loss(teacher, student, norm=norm, delta=delta), value)
    assert regression_loss(teacher, teacher, norm=norm, delta=delta) == 0.0


@given(seeds, outputs)
def test_the_huber_loss_lies_between_the_two_that_it_joins(seed, outputs) -> None:
    student, teacher = pair(seed, 4, outputs)
    squares, sizes = (regression_loss(student, teacher, norm=norm) for norm in ("l2", "l1"))
    torch.testing.assert_close(regression_loss(student, teacher, delta=1e3), squares / 2)
    torch.testing.assert_close(regression_loss(student, teacher, delta=1e-6), 1e-6 * sizes, rtol=1e-3, atol=0.0)
    torch.testing.assert_close(squares, logit_mse_loss(student, teacher))


@given(seeds, outputs, deltas)
def test_no_answer_pulls_harder_than_delta(seed, outputs, delta) -> None:
    student, teacher = pair(seed, 1, outputs)
    student.requires_grad_()
    regression_loss(student, 100.0 * teacher, delta=delta).backward()
    assert student.grad is not None
    assert student.grad.abs().max() <= delta / outputs * (1 + 1e-12)


@given(seeds, outputs, norms)
def test_masking_equals_slicing(seed, outputs, norm) -> None:
    student, teacher = pair(seed, 8, outputs)
    mask = torch.rand(8, generator=torch.Generator().manual_seed(seed)) < 0.5
    mask[0] = True
    masked = regression_loss(student, teacher, norm=norm, mask=mask)
    torch.testing.assert_close(masked, regression_loss(student[mask], teacher[mask], norm=norm))
