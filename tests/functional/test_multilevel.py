import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from understudy.functional import multilevel_logit_loss, soft_target_loss

seeds = st.integers(0, 2**31 - 1)
classes = st.integers(3, 7)
temperatures = st.lists(st.floats(0.5, 20.0), min_size=1, max_size=4)

INSTANCES = {"batch_level": 0.0, "class_level": 0.0}
BATCH = {"instance_level": 0.0, "class_level": 0.0}
CLASSES = {"instance_level": 0.0, "batch_level": 0.0}


def pair(seed: int, count: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3.0 * torch.randn(count, classes, generator=generator, dtype=torch.float64) for _ in range(2))
    return student, teacher


@given(seeds, classes, temperatures)
def test_every_level_is_positive_and_zero_at_equality(seed, classes, temperatures) -> None:
    student, teacher = pair(seed, 5, classes)
    for level in (INSTANCES, BATCH, CLASSES):
        assert multilevel_logit_loss(student, teacher, temperatures=temperatures, **level) > 0.0
        assert multilevel_logit_loss(teacher, teacher, temperatures=temperatures, **level) == 0.0


@given(seeds, classes, temperatures, st.floats(-50.0, 50.0))
def test_a_constant_on_all_logits_changes_nothing(seed, classes, temperatures, shift) -> None:
    student, teacher = pair(seed, 3, classes)
    value = multilevel_logit_loss(student, teacher, temperatures=temperatures)
    moved = multilevel_logit_loss(student + shift, teacher - shift, temperatures=temperatures)
    torch.testing.assert_close(moved, value, rtol=1e-9, atol=1e-11)


@given(seeds, classes, temperatures)
def test_is_the_sum_of_its_levels_and_of_its_temperatures(seed, classes, temperatures) -> None:
    student, teacher = pair(seed, 5, classes)
    whole = multilevel_logit_loss(student, teacher, temperatures=temperatures)
    parts = [
        multilevel_logit_loss(student, teacher, temperatures=(temperature,), **level)
        for level in (INSTANCES, BATCH, CLASSES)
        for temperature in temperatures
    ]
    torch.testing.assert_close(whole, torch.stack(parts).sum())


@given(seeds, classes, temperatures)
def test_the_first_level_is_that_of_the_soft_targets(seed, classes, temperatures) -> None:
    student, teacher = pair(seed, 5, classes)
    expected = torch.stack([soft_target_loss(student, teacher, temperature=t) for t in temperatures]).sum()
    torch.testing.assert_close(
        multilevel_logit_loss(student, teacher, temperatures=temperatures, **INSTANCES), expected
    )


@given(seeds, classes)
def test_the_batch_level_does_not_know_the_classes_and_the_class_level_not_the_samples(seed, classes) -> None:
    """The same teacher with classes renamed has the same similar samples; with samples exchanged, the same classes."""
    _, teacher = pair(seed, 5, classes)
    renamed, exchanged = teacher.roll(1, dims=1), teacher.roll(1, dims=0)
    assert multilevel_logit_loss(renamed, teacher, **BATCH) < 1e-24
    assert multilevel_logit_loss(renamed, teacher, **CLASSES) > 1e-9
    assert multilevel_logit_loss(exchanged, teacher, **CLASSES) < 1e-24
    assert multilevel_logit_loss(exchanged, teacher, **BATCH) > 1e-9


@given(seeds, st.integers(1, 8), classes)
def test_grows_with_the_batch_no_further_than_stated(seed, count, classes) -> None:
    student, teacher = (100.0 * side for side in pair(seed, count, classes))
    assert multilevel_logit_loss(student, teacher, temperatures=(0.1,), **BATCH) <= count + 1e-9
    assert multilevel_logit_loss(student, teacher, temperatures=(0.1,), **CLASSES) <= 2 * count**2 / classes + 1e-9


def test_the_stated_most_is_reached() -> None:
    """All of the teacher's samples in one class, all of the student's in another."""
    one, other = torch.zeros(4, 3), torch.zeros(4, 3)
    one[:, 0], other[:, 1] = 1e4, 1e4
    assert multilevel_logit_loss(one, other, temperatures=(1.0,), **CLASSES) == 2 * 4**2 / 3
