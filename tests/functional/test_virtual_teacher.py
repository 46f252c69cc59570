import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from understudy.functional import cross_entropy_loss, virtual_teacher_loss

seeds = st.integers(0, 2**31 - 1)
classes = st.integers(2, 7)
certainties = st.floats(0.05, 1.0)
temperatures = st.floats(0.1, 50.0)


def labelled(seed: int, count: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3.0 * torch.randn(count, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (count,), generator=generator)


@given(seeds, classes, certainties, temperatures)
def test_is_positive_and_zero_for_the_teacher_itself(seed, classes, certainty, temperature) -> None:
    logits, targets = labelled(seed, 5, classes)
    fields = {"correct_probability": certainty, "temperature": temperature}
    assert virtual_teacher_loss(logits, targets, **fields) > 0.0
    made = torch.full_like(logits, (1 - certainty) / (classes - 1) / temperature)
    made[torch.arange(5), targets] = certainty / temperature
    assert virtual_teacher_loss(made + 3.0, targets, **fields).abs() < 1e-13


@given(seeds, classes, certainties, temperatures, st.floats(-50.0, 50.0))
def test_a_constant_on_all_logits_changes_nothing(seed, classes, certainty, temperature, shift) -> None:
    logits, targets = labelled(seed, 5, classes)
    fields = {"correct_probability": certainty, "temperature": temperature}
    value = virtual_teacher_loss(logits, targets, **fields)
    torch.testing.assert_close(virtual_teacher_loss(logits + shift, targets, **fields), value, rtol=1e-9, atol=1e-11)


@given(seeds, classes)
def test_has_the_stated_limits(seed, classes) -> None:
    logits, targets = labelled(seed, 5, classes)
    cold = virtual_teacher_loss(logits, targets, correct_probability=1.0, temperature=1e-3)
    torch.testing.assert_close(cold, cross_entropy_loss(logits, targets))
    uniform = -math.log(classes) - logits.log_softmax(-1).mean(-1).mean()
    torch.testing.assert_close(virtual_teacher_loss(logits, targets, temperature=1e9), uniform, rtol=1e-6, atol=1e-8)


@given(seeds, classes, temperatures)
def test_masked_or_unlabelled_equals_left_out(seed, classes, temperature) -> None:
    logits, targets = labelled(seed, 8, classes)
    counts = torch.rand(8, generator=torch.Generator().manual_seed(seed)) < 0.5
    counts[0] = True
    sliced = virtual_teacher_loss(logits[counts], targets[counts], temperature=temperature)
    masked = virtual_teacher_loss(logits, targets, temperature=temperature, mask=counts)
    unlabelled = virtual_teacher_loss(logits, targets.masked_fill(~counts, -100), temperature=temperature)
    torch.testing.assert_close(masked, sliced, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(unlabelled, sliced, rtol=1e-12, atol=1e-14)


def test_one_class_leaves_nothing_to_learn() -> None:
    logits = torch.randn(3, 1, requires_grad=True)
    loss = virtual_teacher_loss(logits, torch.zeros(3, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0.0
